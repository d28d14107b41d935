package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/lab"
)

// provocations are what brings the mistakes about the cluster's agreement to light, and the
// one about output commit that test/sim has, too. With each, the host that the fault is done
// to speaks for a guest that is another's. That of mode checkpoint is the last: what it rolls
// back, connections may show for long.
var provocations = []provocation{
	{mutant.FailoverWithoutRaft, core.Buffer, step{Fault: "management-cut-both", On: backup, Lasts: span{4 * time.Second}}},
	{mutant.SoloWithoutRaft, core.Buffer, step{Fault: "management-cut-both", On: primary, Lasts: span{5 * time.Second}}}, // commits are given up after 3 s
	{mutant.ReleaseOnError, core.Buffer, step{Fault: "management-cut-both", On: primary, Lasts: span{5 * time.Second}}},  // the session's end, for want of a commit
	{mutant.LeaseWithoutFencing, core.Checkpoint, step{Fault: "hamgr-stopped", On: primary, Lasts: span{4 * time.Second}}},
}

type provocation struct {
	mutant.Mistake
	mode core.Mode
	step
}

// TestAgreementMutants: hamgr as it is passes under every provocation; with the mistake that
// it is for, it does not.
func TestAgreementMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a lab")
	}
	for _, m := range mutant.Agreement {
		if !slices.ContainsFunc(provocations, func(p provocation) bool { return p.Mistake == m }) {
			t.Errorf("nothing brings %s to light", m)
		}
	}
	o := options{hosts: string(lab.Container), nodes: 3, out: t.TempDir(), progress: testLog{t}, mutants: true}
	o.protect = "--epoch 300ms" // a guest that stands still when a fault comes says nothing; longer epochs make that rare
	if err := o.prepare(); err != nil {
		t.Fatal(err)
	}
	world, err := newWorld(t.Context(), o, o.progress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(world.Down)
	w := &provoker{world, o.use, 0}
	for i, p := range provocations {
		if i > 0 && p.Fault == provocations[i-1].Fault && p.On == provocations[i-1].On {
			continue // the one before
		}
		t.Run("none/"+string(p.Mistake), func(t *testing.T) {
			if v := w.provoke(t, p); v.over() || v.deaf {
				t.Error(v.Violations, v.Unserved, v.Unjudged)
			}
		})
	}
	w.bound = 20 * time.Second // whom two guests have answered waits in vain
	for _, p := range provocations {
		t.Run(string(p.Mistake), func(t *testing.T) {
			if err := w.Mutate(t.Context(), p.Mistake); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				v := w.provoke(t, p)
				sign := fmt.Sprintf("%s on %s ", commit.NotOwner, v.Faults[0].Host)
				if slices.ContainsFunc(v.Violations, func(s string) bool { return strings.HasPrefix(s, sign) }) {
					return
				}
			}
			t.Error("it was not noticed, or for something else")
		})
	}
}

// provoker is a world for one run after another, whatever they lead to.
type provoker struct {
	*world
	faults []fault
	runs   int
}

// provoke lets a fault happen in its mode. What earlier ones have led to is forgotten.
func (w *provoker) provoke(t *testing.T, p provocation) verdict {
	t.Helper()
	if err := p.complete(w.faults); err != nil {
		t.Fatal(err)
	}
	if text, err := w.Tell(t.Context(), "h1", "mode", "g1", string(p.mode)); err != nil {
		t.Fatal(text, err)
	}
	w.place = place{}
	w.runs++
	v, err := w.once(t.Context(), w.runs, 1, []step{p.step})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(v.line())
	if len(v.Faults) == 0 || v.Faults[0].Missed != "" {
		t.Fatalf("nothing was put to the test: %v %s", v.Faults, v.Unserved)
	}
	return v
}
