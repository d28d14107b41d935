package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/guest/image"
	"github.com/hamgr/hamgr/test/testbed"
)

const (
	moveCount = 14
	powerOffs = 10
	// settle is left to a lab between two failures, so that none falls into the work that
	// the one before has made.
	settle = time.Second
	// askEvery is how often the client that watches an outage asks, on the average.
	askEvery = 8 * time.Millisecond
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

// outage is what one power-off cost; times in ms.
type outage struct {
	total, detect, restore, rest float64
	leader                       bool // the host was the managers' leader's, too
}

// outages pulls the plug of the primary's host, and starts it again, several times.
func (p *pathLab) outages(ctx context.Context) error {
	if text, err := p.Hamgr(ctx, "h1", "protect", "g1"); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	var total, detect, restore, rest []float64
	leaders := 0.0
	for i := range powerOffs {
		o, err := p.outage(ctx, uint64(100+i))
		if err != nil {
			return err
		}
		note := ""
		if o.leader {
			leaders++
			note = "; the leader's host"
		}
		p.say("power-off %d of %d: outage %.0f ms = detection %.0f + restoring %.0f + the client %.0f%s", i+1, powerOffs, o.total, o.detect, o.restore, o.rest, note)
		total, detect = append(total, o.total), append(detect, o.detect)
		restore, rest = append(restore, o.restore), append(rest, o.rest)
	}
	parts := map[string]float64{"p50": median(total), "detection_p50": median(detect), "restoring_p50": median(restore), "client_p50": median(rest),
		"detection_max": quantile(detect, 1), "restoring_max": quantile(restore, 1), "client_max": quantile(rest, 1), "leaders_lost": leaders}
	return p.Add(Figure{Name: "outage after power-off, worst", Value: quantile(total, 1), Unit: "ms", Target: AtMost(1000), Samples: len(total), Parts: parts,
		How: "longest time between two answers on one TCP connection; detection: power-off to the decision; client: from the guest running to the answer (what both ends retransmit when)"})
}

// outage powers off the host that g1 runs on, which need not be the managers' leader.
func (p *pathLab) outage(ctx context.Context, seed uint64) (o outage, err error) {
	g, err := p.protectedAgain(ctx, "h1", "g1", 0)
	if err != nil {
		return o, err
	}
	c, err := p.StartClient(ctx, askEvery, seed)
	if err != nil {
		return o, err
	}
	if err := wait(ctx, 2*settle); err != nil {
		return o, err
	}
	s, err := p.Status(ctx, "h1")
	if err != nil {
		return o, err
	}
	at, err := p.Host(g.Primary).PowerOff()
	if err != nil {
		return o, err
	}
	if _, err := p.protectedAgain(ctx, g.Backup, "g1", g.Generation); err != nil {
		return o, err
	}
	decided, running, err := p.lastFailover(ctx, g.Backup, "g1")
	if err != nil {
		return o, err
	}
	samples, err := p.stopAll([]*testbed.Client{c})
	if err != nil {
		return o, err
	}
	o = outage{total: ms(testbed.Outage(samples, at)), detect: ms(decided.Sub(at)), restore: ms(running.Sub(decided)), leader: s.Leader == g.Primary}
	o.rest = o.total - o.detect - o.restore
	if o.detect <= 0 || o.restore <= 0 || o.total <= 0 {
		return o, fmt.Errorf("an outage of %+v", o)
	}
	return o, p.startAgain(ctx, g.Primary)
}

// startAgain boots a host that was powered off, and waits until its node is one of the
// cluster again.
func (p *pathLab) startAgain(ctx context.Context, host string) error {
	if err := p.Host(host).Start(); err != nil {
		return err
	}
	_, err := p.WaitStatus(ctx, host, time.Minute, "all nodes alive", func(s api.Status, _ *api.ProtectionStatus) bool {
		alive := 0
		for _, n := range s.Nodes {
			if n.State == "alive" {
				alive++
			}
		}
		return s.Leader != "" && alive == len(s.Nodes) && alive == 3
	})
	return err
}
