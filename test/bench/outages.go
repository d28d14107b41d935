package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/test/testbed"
)

const (
	powerOffs = 10
	// askEvery is how often the client that watches an outage asks, on the average.
	askEvery = 8 * time.Millisecond
)

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
