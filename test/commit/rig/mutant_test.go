package rig

import (
	"context"
	"testing"
	"time"

	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/test/commit"
)

// provocations are what brings a mistake to light. Each returns when it is over.
var provocations = map[string]func(ctx context.Context, r *Rig) error{
	"ordinary epochs": func(_ context.Context, _ *Rig) error {
		time.Sleep(2 * time.Second)
		return nil
	},
	"a backup that dies in mid-commit": func(ctx context.Context, r *Rig) error {
		p, err := r.Protected(ctx, 0, time.Minute)
		if err != nil {
			return err
		}
		if err := r.KillBackupInMidCommit(ctx, p.Backup); err != nil {
			return err
		}
		_, err = r.Protected(ctx, p.Generation, time.Minute)
		return err
	},
}

// TestMutants: hamgr as it is passes under every provocation; with each of its
// forerunners' mistakes it does not.
func TestMutants(t *testing.T) {
	r := up(t, Options{Mutants: true})
	ctx := t.Context()
	if out, err := r.Hamgr(ctx, "h1", "protect", "g1"); err != nil {
		t.Fatal(out, err)
	}
	l, err := r.Load(10*time.Millisecond, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	if err := r.Dirty(ctx, 20000); err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, provocation string) commit.Report {
		t.Helper()
		from := time.Now()
		if err := provocations[provocation](ctx, r); err != nil {
			t.Fatal(err)
		}
		rep, err := r.Check(from)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Held == 0 || rep.Epochs == 0 {
			t.Fatalf("nothing was put to the test: %d frames held, %d epochs", rep.Held, rep.Epochs)
		}
		t.Logf("%v: %d frames held, %d epochs, commit %v ms, after it %v ms", rep.Count, rep.Held, rep.Epochs, rep.Commit, rep.After)
		return rep
	}
	for p := range provocations {
		t.Run("none/"+p, func(t *testing.T) {
			if rep := run(t, p); rep.Err() != nil {
				t.Fatal(rep.Err())
			}
		})
	}
	for _, m := range mutant.All {
		t.Run(string(m), func(t *testing.T) {
			if err := r.Mutate(ctx, m); err != nil {
				t.Fatal(err)
			}
			p := "ordinary epochs"
			if m == mutant.ReleaseOnError || m == mutant.IgnoreFailedCommit {
				p = "a backup that dies in mid-commit"
			}
			for range 3 { // a fault may come between two epochs, where it does no harm
				if run(t, p).Count[commit.Leak] > 0 {
					return
				}
			}
			t.Fatal("it was not noticed")
		})
	}
}
