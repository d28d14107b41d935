package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/guest/image"
)

const (
	moveCount = 14
	// settle is left to a lab between two failures, so that none falls into the work that
	// the one before has made.
	settle = time.Second
)

// smallGuest is the second guest of the large one's lab.
var smallGuest = image.Guest{Name: "g2", MemoryMiB: smallMiB, MAC: "52:54:00:78:00:02", IP: "10.78.0.202/24", IP6: "fd78::202/64"}

// moves fails a large and a small guest over in turns, by an operator's word: from the
// decision on, all is as after a power-off.
func (p *pathLab) moves(ctx context.Context) error {
	p.say("a second guest, of %d MiB", smallMiB)
	if err := p.Start(ctx, "h1", smallGuest); err != nil {
		return err
	}
	guests, sizes := []string{"g1", "g2"}, map[string]uint{"g1": p.memoryMiB, "g2": smallMiB}
	for _, g := range guests {
		if text, err := p.Hamgr(ctx, "h1", "protect", g); err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
	}
	moved := map[uint][]float64{}
	for i := range moveCount {
		for _, g := range guests {
			took, err := p.move(ctx, g)
			if err != nil {
				return err
			}
			moved[sizes[g]] = append(moved[sizes[g]], took)
		}
		slices.Reverse(guests) // each of them after the other as often
		p.say("failover %d of %d: running %.0f ms after the decision with %d MiB, %.0f ms with %d MiB", i+1, moveCount,
			moved[smallMiB][i], smallMiB, moved[p.memoryMiB][i], p.memoryMiB)
	}
	return p.addMoves(moved)
}

// move fails a guest over and returns the milliseconds from the decision to its running.
func (p *pathLab) move(ctx context.Context, domain string) (float64, error) {
	g, err := p.protectedAgain(ctx, "h1", domain, 0)
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, settle); err != nil {
		return 0, err
	}
	if text, err := p.Hamgr(ctx, "h1", "failover", domain, "--now"); err != nil {
		return 0, fmt.Errorf("%w: %s", err, text)
	}
	if _, err := p.protectedAgain(ctx, "h1", domain, g.Generation); err != nil {
		return 0, err
	}
	decided, running, err := p.lastFailover(ctx, "h1", domain)
	return ms(running.Sub(decided)), err
}

// lastFailover has the times of a guest's last one from the cluster's own events; all
// hosts of a lab share one clock.
func (p *pathLab) lastFailover(ctx context.Context, ask, domain string) (decided, running time.Time, err error) {
	events, err := p.Events(ctx, ask)
	for _, e := range events {
		switch {
		case e.Domain != domain:
		case e.Kind == core.FailOver:
			decided, running = e.Time, time.Time{}
		case e.Kind == core.Restored:
			running = e.Time
		}
	}
	if err == nil && (decided.IsZero() || !running.After(decided)) {
		err = fmt.Errorf("no failover of %s among the events: %+v", domain, events)
	}
	return decided, running, err
}

// addMoves adds the figures on failovers of both sizes of guest.
func (p *pathLab) addMoves(moved map[uint][]float64) error {
	how := "from the time in the failover's Raft entry to the time in that of the restored guest; hamgr failover --now, two guests of one lab in turns"
	for _, mib := range []uint{smallMiB, largeMiB} {
		list := moved[mib]
		err := p.Add(Figure{Name: fmt.Sprintf("decision to running, median, %d MiB", mib), Value: median(list), Unit: "ms", Target: AtMost(150),
			Samples: len(list), Parts: map[string]float64{"max": quantile(list, 1), "min": quantile(list, 0)}, How: how})
		if err != nil {
			return err
		}
	}
	a, b := median(moved[smallMiB]), median(moved[largeMiB])
	return p.Add(Figure{Name: fmt.Sprintf("decision to running, %d against %d MiB", smallMiB, largeMiB), Value: 100 * (math.Max(a, b)/math.Min(a, b) - 1), Unit: "% apart",
		Target: AtMost(20), Samples: moveCount, How: "the larger of the two medians over the smaller, less 1"})
}
