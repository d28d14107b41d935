package sim

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Search plays the schedules of seeds, shared out among workers.
type Search struct {
	First   uint64 // seed
	Seeds   uint64 // how many from there
	Workers int
	Mutant  Mutant
	// Found is called for each violation, never twice at a time; true ends the search.
	Found func(Schedule, *Violation) (stop bool)

	next atomic.Uint64 // seed, as a distance from First, that no worker has taken
	mu   sync.Mutex    // one call of Found at a time; guards sum
	sum  Stats
}

// Done is how many schedules have been taken up.
func (s *Search) Done() uint64 { return min(s.next.Load(), s.Seeds) }

// Run searches until all seeds are played, Found says stop, or ctx ends. What it finds
// depends on the seeds alone; which violation of several comes first does not.
func (s *Search) Run(ctx context.Context) Stats {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // hardly anything lives long: a third of the time
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.sum.Faults = map[FaultKind]int64{}
	var wg sync.WaitGroup
	for range s.Workers {
		wg.Go(func() { s.work(ctx, stop) })
	}
	wg.Wait()
	return s.sum
}

func (s *Search) work(ctx context.Context, stop func()) {
	w := NewWorld(nil)
	sum := Stats{Faults: map[FaultKind]int64{}}
	for ctx.Err() == nil {
		n := s.next.Add(1) - 1
		if n >= s.Seeds {
			break
		}
		schedule := Draw(s.First + n)
		v, stats := w.Run(schedule, s.Mutant)
		sum.add(stats)
		if v != nil && s.found(schedule, v) {
			stop()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.add(sum)
}

func (s *Search) found(schedule Schedule, v *Violation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Found(schedule, v)
}
