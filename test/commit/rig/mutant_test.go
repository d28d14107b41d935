package rig

import (
	"context"
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
	watched     = 60 // epochs
)

// provocations are what brings a mistake to light. Each returns when it is over.
var provocations = map[string]func(ctx context.Context, r *Rig) error{
	ordinary: func(ctx context.Context, r *Rig) error {
		var first uint64
		_, err := r.WaitStatus(ctx, "h1", r.Patience(), "more epochs", func(_ api.Status, g *api.ProtectionStatus) bool {
			if g == nil || g.Stats == nil {
				return false
			}
			if first == 0 {
				first = g.Stats.Epochs
			}
			return g.Stats.Epochs >= first+watched
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
}

// broken says what gives a mistake away: a frame outside too early, unless the mistake is
// one that keeps frames from ever leaving.
func broken(m mutant.Mistake, kind lab.Kind) commit.Kind {
	if m == mutant.SecondBuffer && kind == lab.UML {
		return commit.Missing
	}
	return commit.Leak
}

// TestMutants: hamgr as it is passes under every provocation; with each of its
// forerunners' mistakes it does not.
func TestMutants(t *testing.T) {
	r := mutableRig(t, Options{})
	if err := r.Dirty(t.Context(), 20000); err != nil { // a checkpoint takes its time
		t.Fatal(err)
	}
	for p := range provocations {
		innocent(t, r, p)
	}
	guilty(t, r, mutant.OutputCommit)
}

// TestMutantsOfThePlug makes the mistakes that have to do with the buffer itself on the
// kernel's own plug.
func TestMutantsOfThePlug(t *testing.T) {
	r := mutableRig(t, Options{Kind: lab.UML, Nodes: 2})
	innocent(t, r, ordinary)
	guilty(t, r, []mutant.Mistake{mutant.OnlyIP, mutant.SecondBuffer})
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

func innocent(t *testing.T, r *Rig, provocation string) {
	t.Run("none/"+provocation, func(t *testing.T) {
		if rep := provoke(t, r, provocation); rep.Err() != nil {
			t.Fatal(rep.Err())
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
				if provoke(t, r, p).Count[broken(m, r.kind)] > 0 {
					return
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
	t.Logf("%v: %d frames held, %d epochs, commit %v ms, after it %v ms", rep.Count, rep.Held, rep.Epochs, rep.Commit, rep.After)
	return rep
}
