package core

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Reinstatement is what a cluster that has lost its state gets back of a saved one, see Recall.
type Reinstatement struct {
	// Generation is above all that any host has seen of these guests, or may have.
	Generation  uint64            `json:"generation"`
	Protections []Protection      `json:"protections"` // the orders; what had come of them does not count
	Definitions map[string]string `json:"definitions,omitempty"`
}

// reinstate puts saved orders in force again, each guest alone on the host that has it. Its
// compare-and-set is on Retired: what was seen on the hosts holds for as long as nobody
// was protected meanwhile.
func reinstate(s *State, c Command) (Event, error) {
	r := c.Reinstate
	switch {
	case r == nil || r.Generation <= s.Retired:
		return Event{}, fmt.Errorf("%w: %s needs protections and a generation above %d", ErrBadCommand, c.Kind, s.Retired)
	case len(s.Protections) > 0:
		return Event{}, fmt.Errorf("%w: %d domains are, the first is %q; a saved state is for a cluster that protects none",
			ErrAlreadyProtected, len(s.Protections), slices.Sorted(maps.Keys(s.Protections))[0])
	case c.Generation != s.Retired:
		return Event{}, fmt.Errorf("%w: %s was decided on generation %d, a protection has ended with %d since", ErrStaleGeneration, c.Kind, c.Generation, s.Retired)
	}
	next := *s
	next.Protections, next.Definitions = map[string]Protection{}, map[string]string{}
	for _, p := range r.Protections {
		if err := checkOrder(next, p); err != nil {
			return Event{}, err
		}
		if p.OnLoss == OnLossRestart {
			if r.Definitions[p.Domain] == "" {
				return Event{}, noDefinition(p)
			}
			next.Definitions[p.Domain] = r.Definitions[p.Domain]
		}
		p = p.afresh()
		p.Backup, p.Boot, p.Generation = "", "", r.Generation
		p.Phase, p.Since, p.Reason = Solo, c.Time, c.Cause
		next.Protections[p.Domain] = p
	}
	next.Retired, next.Reinstated = r.Generation, next.Index
	*s = next
	return Event{Generation: r.Generation}, nil
}

// afresh is the order in p without what has come of it.
func (p Protection) afresh() Protection {
	if p.Mode == "" {
		p.Mode = Buffer
	}
	if p.Epoch == 0 {
		p.Epoch = DefaultEpoch
	}
	p.Wanted, p.Refused, p.RefusedAt = "", nil, time.Time{}
	p.Moving, p.StayedAt, p.Degraded = false, time.Time{}, ""
	p.Together, p.TurnedDownAt, p.ProbeFailed = "", time.Time{}, ""
	p.Cold, p.Starts, p.Fenced, p.Silent, p.Unrun = false, 0, false, false, false
	return p
}

func noDefinition(p Protection) error {
	return fmt.Errorf("%w: %q cannot be started anew without a definition", ErrBadCommand, p.Domain)
}
