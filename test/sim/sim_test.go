package sim

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// seeds is from where, and how many: HAMGR_SEED and HAMGR_SEEDS replay or prolong a search.
func seeds(t *testing.T, from, n uint64) (uint64, uint64) {
	t.Helper()
	for name, v := range map[string]*uint64{"HAMGR_SEED": &from, "HAMGR_SEEDS": &n} {
		if text := os.Getenv(name); text != "" {
			x, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			*v = x
		}
	}
	return from, n
}

// search plays n seeds on all cores and calls found, one at a time, for each violation.
func search(from, n uint64, m Mutant, found func(seed uint64, v *Violation) (stop bool)) (sum Stats) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	stopped := false
	workers := uint64(runtime.GOMAXPROCS(0))
	for i := range workers {
		wg.Go(func() {
			w := NewWorld(nil)
			for seed := from + i; seed < from+n; seed += workers {
				v, s := w.Run(Draw(seed), m)
				mu.Lock()
				sum.Failovers += s.Failovers
				sum.Solos += s.Solos
				if v != nil && !stopped && found(seed, v) {
					stopped = true
				}
				end := stopped
				mu.Unlock()
				if end {
					return
				}
			}
		})
	}
	wg.Wait()
	return sum
}

// TestSchedules: no schedule breaks an invariant. One that leaves a guest unserved is shown,
// and there are to be next to none.
func TestSchedules(t *testing.T) {
	from, n := seeds(t, 0, 10_000)
	t.Logf("seeds %d to %d; HAMGR_SEED=%d HAMGR_SEEDS=1 replays one", from, from+n-1, from)
	unserved := uint64(0)
	sum := search(from, n, NoMutant, func(seed uint64, v *Violation) bool {
		if v.Check == "unserved" {
			unserved++
			t.Logf("seed %d: %v", seed, v)
			return false
		}
		t.Errorf("seed %d: %v", seed, v)
		return true
	})
	t.Logf("%d schedules: %d failovers, %d times solo, %d unserved", n, sum.Failovers, sum.Solos, unserved)
	if n >= 10_000 && (uint64(sum.Failovers) < n/10 || uint64(sum.Solos) < n/10) {
		t.Error("hardly anything happened: nothing was tested")
	}
	if unserved > n/200+1 {
		t.Errorf("%d of %d schedules leave a guest unserved", unserved, n)
	}
}

// rare mutants were not found in 20,000 schedules: what they break takes a grant in flight
// at the moment of a takeover. The model of package lease, which is about nothing else,
// finds the first two in its own test.
var rare = []Mutant{GrantsDuringTakeover, TakeoverWhenElected, TakeoverWithoutWait}

// TestMutants: each mistake is found.
func TestMutants(t *testing.T) {
	for _, m := range Mutants {
		if slices.Contains(rare, m) {
			continue
		}
		t.Run(string(m), func(t *testing.T) {
			found := ""
			search(0, 3_000, m, func(seed uint64, v *Violation) bool {
				if v.Check == "unserved" {
					return false
				}
				found = fmt.Sprintf("seed %d: %v", seed, v)
				return true
			})
			if found == "" {
				t.Error("not found in 3,000 schedules")
			}
			t.Log(found)
		})
	}
}
