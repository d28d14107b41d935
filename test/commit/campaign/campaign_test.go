package main

import (
	"os"
	"testing"

	"github.com/hamgr/hamgr/test/commit/rig"
	"github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

// TestSeedIsTheSchedule: the same one draws the same steps, another one others, and a
// few dozen runs have all kinds of faults.
func TestSeedIsTheSchedule(t *testing.T) {
	same, kinds := 0, map[string]bool{}
	for n := range 40 {
		a, b, other := draw(1, n), draw(1, n), draw(2, n)
		if a.fault.Name != b.fault.Name || a.delay != b.delay || a.random.Uint64() != b.random.Uint64() {
			t.Fatalf("step %d differs: %s after %v, %s after %v", n, a.fault.Name, a.delay, b.fault.Name, b.delay)
		}
		if a.fault.Name == other.fault.Name && a.delay == other.delay {
			same++
		}
		kinds[a.fault.Name] = true
	}
	if same > 1 || len(kinds) != len(rig.Faults) {
		t.Errorf("%d of 40 steps are those of another seed; kinds: %v", same, kinds)
	}
}
