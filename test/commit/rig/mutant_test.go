package rig

import (
	"context"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/lab"
)

const (
	ordinary    = "ordinary epochs"
	dyingBackup = "a backup that dies in mid-commit"
	failover    = "a QEMU that dies"
	watched     = 60 // epochs, at least
)

// provocations are what brings a mistake to light. Each returns when it is over.
var provocations = map[string]func(ctx context.Context, r *Rig) error{
	ordinary: func(ctx context.Context, r *Rig) error {
		var first uint64
		judged := time.Now().Add(r.Answer())
		_, err := r.WaitStatus(ctx, "h1", r.Patience(), "more epochs", func(_ api.Status, g *api.ProtectionStatus) bool {
			if g == nil || g.Stats == nil {
				return false
			}
			if first == 0 {
				first = g.Stats.Epochs
			}
			return g.Stats.Epochs >= first+watched && time.Now().After(judged)
		})
		return err
	},
	dyingBackup: func(ctx context.Context, r *Rig) error {
		p, err := r.Protected(ctx, 0, r.Patience())
		if err != nil {
			return err
		}
		if err := r.KillBackupInMidCommit(ctx, p.Backup); err != nil {
			return err
		}
		_, err = r.Protected(ctx, p.Generation, r.Patience())
		return err
	},
	failover: func(ctx context.Context, r *Rig) error {
		p, err := r.Protected(ctx, 0, r.Patience())
		if err != nil {
			return err
		}
		i := slices.IndexFunc(Faults, func(f Fault) bool { return f.Name == QEMUKilled })
		if _, err := Faults[i].Do(ctx, r, p, nil); err != nil {
			return err
		}
		_, err = r.Protected(ctx, p.Generation, r.Patience())
		return err
	},
}

const (
	inItsEpoch = `was committed [0-9.]+[mµ]s later$` // the epoch was, in its turn
	notAtAll   = `was never committed$`
)

// marks are how the checker words what each mistake does: frames that are outside too early.
// What a restart, say, might let out has other words.
var marks = map[mutant.Mistake]string{
	mutant.ReleaseWhenWritten: inItsEpoch,
	mutant.AckBeforeApply:     inItsEpoch,
	mutant.SecondBuffer:       inItsEpoch,
	mutant.ReleaseOnError:     notAtAll,
	mutant.IgnoreFailedCommit: notAtAll,
	mutant.OnlyIP:             `^(ARP|ICMPv6|MLD|IPv6|(TCP|UDP) \[)`,
}

// seen says that a report has what gives a mistake away. One keeps frames from ever leaving,
// and does so in a plug.
func seen(m mutant.Mistake, kind lab.Kind, rep commit.Report) bool {
	want, mark := commit.Leak, marks[m]
	if m == mutant.SecondBuffer && kind == lab.UML {
		want, mark = commit.Missing, `never seen outside$`
	}
	return slices.ContainsFunc(rep.Violations, func(v commit.Violation) bool {
		return v.Kind == want && regexp.MustCompile(mark).MatchString(v.Detail)
	})
}

// TestMutants: hamgr as it is passes under every provocation, before and after; with each of
// its forerunners' mistakes it does not.
func TestMutants(t *testing.T) {
	r := mutableRig(t, Options{})
	if err := r.Dirty(t.Context(), 20000); err != nil { // a checkpoint takes its time
		t.Fatal(err)
	}
	innocent(t, r, "before", ordinary, dyingBackup)
	guilty(t, r, mutant.OutputCommit)
	innocent(t, r, "after", ordinary, dyingBackup)
}

// TestMutantsOfThePlug makes the mistakes that have to do with the buffer itself on the
// kernel's own plug. There, too, hamgr as it is passes, and through a failover.
func TestMutantsOfThePlug(t *testing.T) {
	r := mutableRig(t, Options{Kind: lab.UML, Nodes: 2})
	innocent(t, r, "before", failover, ordinary) // whose check has time to judge the failover's last requests
	guilty(t, r, []mutant.Mistake{mutant.OnlyIP, mutant.SecondBuffer})
	innocent(t, r, "after", ordinary)
}

// mutableRig is one that can be told to make mistakes, with its guest protected and asked.
func mutableRig(t *testing.T, o Options) *Rig {
	o.Mutants = true
	r := up(t, o)
	if err := r.Protect(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := r.Load(10*time.Millisecond, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Abort() })
	return r
}

// innocent restarts hamgr everywhere, as is done for a mistake, so that none is noticed for
// that.
func innocent(t *testing.T, r *Rig, when string, provocations ...string) {
	t.Run("none/"+when, func(t *testing.T) {
		if err := r.Mutate(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		var rep commit.Report
		for _, p := range provocations {
			rep = provoke(t, r, p)
			if rep.Err() != nil {
				t.Fatalf("%s: %v", p, rep.Err())
			}
			if p == failover && rep.Restores != 1 {
				t.Errorf("%s: %d restores", p, rep.Restores)
			}
		}
		if rep.UDP.Answered == 0 {
			t.Errorf("no request was judged: %+v", rep.UDP)
		}
	})
}

func guilty(t *testing.T, r *Rig, mistakes []mutant.Mistake) {
	for _, m := range mistakes {
		t.Run(string(m), func(t *testing.T) {
			if err := r.Mutate(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			p := ordinary
			if m == mutant.ReleaseOnError || m == mutant.IgnoreFailedCommit {
				p = dyingBackup
			}
			for range 3 { // a fault may come between two epochs, where it does no harm
				rep := provoke(t, r, p)
				if seen(m, r.kind, rep) {
					return
				}
				for _, v := range rep.Violations {
					t.Logf("not of this mistake: %s %s", v.Kind, v.Detail)
				}
			}
			t.Fatal("it was not noticed")
		})
	}
}

func provoke(t *testing.T, r *Rig, provocation string) commit.Report {
	t.Helper()
	from := time.Now()
	if err := provocations[provocation](t.Context(), r); err != nil {
		t.Fatal(err)
	}
	rep, err := r.Check(from)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Emitted == 0 || rep.Epochs == 0 {
		t.Fatalf("nothing was put to the test: %d frames, %d epochs", rep.Emitted, rep.Epochs)
	}
	t.Logf("%v: %d frames held, %d epochs, commit %v ms, after it %v ms; %+v", rep.Count, rep.Held, rep.Epochs, rep.Commit, rep.After, rep.UDP)
	return rep
}
