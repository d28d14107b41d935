package testbed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/guest/client"
)

// answered is how long a UDP request may take to be answered when nothing fails.
const answered = 300 * time.Millisecond

// Losses are requests over UDP that got no answer at first, by when they were sent.
type Losses struct {
	Before int // long before the power-off
	Flight int // so that they were under way at that time
	Window int // from then until the guest was restored
	After  int // later
}

// Total is all of them.
func (l Losses) Total() int { return l.Before + l.Flight + l.Window + l.After }

func (l Losses) String() string {
	return fmt.Sprintf("%d lost before the power-off, %d in flight, %d before the guest was back, %d after", l.Before, l.Flight, l.Window, l.After)
}

// LossesOf sorts what a client lost over a failover: its host lost power at one time, the
// guest was back at another.
func LossesOf(r client.Result, at, back time.Time) (l Losses, err error) {
	if r.Error != "" {
		return l, errors.New(r.Error)
	}
	if len(r.LostAt) < r.Lost {
		return l, fmt.Errorf("%d requests lost, and it is not known when", r.Lost)
	}
	for _, sent := range r.LostAt {
		switch {
		case sent.Before(at.Add(-answered)):
			l.Before++
		case sent.Before(at):
			l.Flight++
		case sent.Before(back):
			l.Window++
		default:
			l.After++
		}
	}
	return l, nil
}

// LastFailover has the times of the last one from the cluster's own events, as a host knows
// them; all hosts of a lab share one clock.
func (b *Bed) LastFailover(ctx context.Context, host string) (decided, running time.Time, err error) {
	events, err := b.Events(ctx, host)
	for _, e := range events {
		switch e.Kind {
		case core.FailOver:
			decided, running = e.Time, time.Time{}
		case core.Restored:
			running = e.Time
		}
	}
	if err == nil && (decided.IsZero() || !running.After(decided)) {
		err = fmt.Errorf("no failover among the events: %+v", events)
	}
	return decided, running, err
}
