package sim

import "time"

// Stats counts what happened in one run, or in all of a search.
type Stats struct {
	Schedules int64               `json:"schedules"`
	Events    int64               `json:"events"`
	Simulated time.Duration       `json:"simulated_ns"`
	Faults    map[FaultKind]int64 `json:"faults"` // that met what they were to happen to
	Moves     int64               `json:"moves"`  // planned failovers that were carried out
	Failovers int64               `json:"failovers"`
	Solos     int64               `json:"solos"`
	Lost      int64               `json:"lost"` // guests whose every copy died
	// Forsaken are those of them whose former primary still had a copy: the cluster had given
	// the guest to a backup that lost its replica at the same time.
	Forsaken  int64 `json:"forsaken"`
	Rollbacks int64 `json:"rollbacks"` // in checkpoint mode: something seen was undone
	Late      int64 `json:"late"`      // committed output of a former primary that came after the takeover
	// Slowest is the longest time that passed from the last fault until all was well.
	Slowest    time.Duration `json:"slowest_ns"`
	Violations int64         `json:"violations"`
	Unserved   int64         `json:"unserved"`
}

func (s *Stats) add(o Stats) {
	s.Schedules += o.Schedules
	s.Events += o.Events
	s.Simulated += o.Simulated
	for k, n := range o.Faults {
		s.Faults[k] += n
	}
	s.Moves += o.Moves
	s.Failovers += o.Failovers
	s.Solos += o.Solos
	s.Lost += o.Lost
	s.Forsaken += o.Forsaken
	s.Rollbacks += o.Rollbacks
	s.Late += o.Late
	s.Slowest = max(s.Slowest, o.Slowest)
	s.Violations += o.Violations
	s.Unserved += o.Unserved
}
