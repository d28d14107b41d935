package sim

import (
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// seeds is from where, and how many: HAMGR_SEED alone replays one, HAMGR_SEEDS prolongs the
// search.
func seeds(t *testing.T, n uint64) (first, count uint64) {
	t.Helper()
	read := func(name string, to *uint64) bool {
		text := os.Getenv(name)
		if text == "" {
			return false
		}
		x, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		*to = x
		return true
	}
	count = n
	if read("HAMGR_SEED", &first) {
		count = 1
	}
	read("HAMGR_SEEDS", &count)
	return first, count
}

// TestSchedules: no schedule breaks an invariant, and none leaves a guest unserved.
func TestSchedules(t *testing.T) {
	first, n := seeds(t, 100_000)
	t.Logf("seeds %d to %d; HAMGR_SEED=%d replays the first and tells its story", first, first+n-1, first)
	s := Search{First: first, Seeds: n, Workers: runtime.GOMAXPROCS(0), Found: func(s Schedule, v *Violation) bool {
		small, _ := Shrink(s, NoMutant)
		t.Errorf("seed %d: %v; made small, it is:\n%s", s.Seed, v, story(small, NoMutant))
		return true
	}}
	sum := s.Run(t.Context())
	t.Logf("%d schedules: %d failovers, %d times solo, %d guests lost; faults: %v", sum.Schedules, sum.Failovers, sum.Solos, sum.Lost, sum.Faults)
	if n == 1 {
		t.Log(story(Draw(first), NoMutant))
	}
	if n < 10_000 || t.Failed() {
		return
	}
	if uint64(sum.Failovers) < n/10 || uint64(sum.Solos) < n/10 {
		t.Error("hardly anything happened: nothing was tested")
	}
	for _, w := range weights {
		if uint64(sum.Faults[w.kind]) < n/200 {
			t.Errorf("%s happened %d times only", w.kind, sum.Faults[w.kind])
		}
	}
}

func story(s Schedule, m Mutant) string {
	var out strings.Builder
	Tell(&out, s, m)
	return out.String()
}

// TestMutants: each mistake is found. To leave a guest unserved does not count: that is not
// what these do.
func TestMutants(t *testing.T) {
	for _, m := range Mutants {
		t.Run(string(m), func(t *testing.T) {
			found := false
			s := Search{Seeds: 20_000, Workers: runtime.GOMAXPROCS(0), Mutant: m, Found: func(s Schedule, v *Violation) bool {
				if found || v.Check == Unserved {
					return found
				}
				found = true
				t.Logf("seed %d: %v", s.Seed, v)
				return true
			}}
			if sum := s.Run(t.Context()); !found {
				t.Errorf("not found in %d schedules", sum.Schedules)
			}
		})
	}
}

// TestSame: a schedule is one run, whatever was played before it and whoever listens.
func TestSame(t *testing.T) {
	used := NewWorld(nil)
	for seed := range uint64(200) {
		used.Run(Draw(seed), NoMutant)
	}
	for seed := range uint64(50) {
		v1, s1 := used.Run(Draw(seed), NoMutant)
		v2, s2 := Tell(&strings.Builder{}, Draw(seed), NoMutant)
		if !reflect.DeepEqual(v1, v2) || !reflect.DeepEqual(s1, s2) {
			t.Fatalf("seed %d: %v, %+v; then %v, %+v", seed, v1, s1, v2, s2)
		}
	}
}

// TestShrink: what fails fails with little, by the same check, and the same way each time.
func TestShrink(t *testing.T) {
	shrunk := 0
	s := Search{Seeds: 300, Workers: 1, Mutant: ReleaseOnError, Found: func(s Schedule, v *Violation) bool {
		small, what := Shrink(s, ReleaseOnError)
		again, _ := Shrink(s, ReleaseOnError)
		if what == nil || what.Check != v.Check || len(small.Faults) > len(s.Faults) || !reflect.DeepEqual(small, again) {
			t.Errorf("seed %d: %v becomes %+v: %v", s.Seed, v, small, what)
		}
		if err := small.Check(); err != nil {
			t.Errorf("seed %d: %v", s.Seed, err)
		}
		if len(s.Faults) > 2 && len(small.Faults) <= 2 {
			shrunk++
		}
		return shrunk == 5 || t.Failed()
	}}
	s.Run(t.Context())
	if shrunk < 5 {
		t.Errorf("%d schedules only shrank to two faults", shrunk)
	}
	if small, v := Shrink(Draw(1), NoMutant); v != nil || !reflect.DeepEqual(small, Draw(1)) {
		t.Errorf("a schedule that does not fail becomes %+v: %v", small, v)
	}
}

// TestCheck: every schedule that is drawn is one, and of others it is said what is wrong.
func TestCheck(t *testing.T) {
	for seed := range uint64(2000) {
		if err := Draw(seed).Check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for _, spoil := range []func(*Schedule){
		func(s *Schedule) { s.Hosts = 6 },
		func(s *Schedule) { s.VMs = nil },
		func(s *Schedule) { s.VMs[0].Primary = s.Hosts },
		func(s *Schedule) { s.Faults[0].Target = 9 },
		func(s *Schedule) { s.Faults[0].VM = len(s.VMs) },
		func(s *Schedule) { s.Loss = -1 },
	} {
		s := Draw(3)
		spoil(&s)
		if s.Check() == nil {
			t.Errorf("%+v passes for a schedule", s)
		}
	}
}
