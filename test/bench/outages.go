package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/test/guest/client"
	"github.com/hamgr/hamgr/test/testbed"
)

const (
	powerOffs = 25 // of a guest of each size
	inARow    = 5  // in one lab
	// settle is left to a lab between two failures, so that none falls into the work that
	// the one before has made.
	settle = 2 * time.Second
	// askEvery is how often the client that watches an outage asks, on the average.
	askEvery = 8 * time.Millisecond
)

// outage is what one power-off cost; times in ms.
type outage struct {
	total, detect, restore, rest float64 // total: between two answers
	first                        float64 // from the power-off to an answer of the restored guest
	leader                       bool    // the host was the managers' leader's, too
}

func (o outage) note() string {
	if o.leader {
		return "; the leader's host"
	}
	return ""
}

// outages pulls the plug of a primary's host, and starts it again, several times. Of the
// power-offs of this guest, the first is number after+1.
func (p *pathLab) outages(ctx context.Context, after int) (found []outage, err error) {
	if text, err := p.Hamgr(ctx, "h1", "protect", "g1"); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	for i := after; i < after+inARow; i++ {
		o, err := p.outage(ctx, uint64(100+i), settle)
		if err != nil {
			return nil, err
		}
		p.say("power-off %d of %d, %d MiB: outage %.0f ms = detection %.0f + restoring %.1f + the client %.0f%s", i+1, powerOffs, p.memoryMiB, o.total, o.detect, o.restore, o.rest, o.note())
		found = append(found, o)
	}
	return found, nil
}

// addOutages adds the figures, from the power-offs of the guests of each size.
func (r *run) addOutages(found map[uint][]outage) error {
	medians := map[uint]float64{}
	for _, size := range sizes {
		m, err := r.addOutagesOf(size.memoryMiB, found[size.memoryMiB])
		if err != nil {
			return err
		}
		medians[size.memoryMiB] = m
	}
	return r.compare(medians[smallMiB], medians[largeMiB])
}

// addOutagesOf adds those of one size, and returns the median time to restore, in ms.
func (r *run) addOutagesOf(memoryMiB uint, found []outage) (float64, error) {
	var total, detect, restore, rest []float64
	leaders := 0.0
	for _, o := range found {
		if o.leader {
			leaders++
		}
		total, detect = append(total, o.total), append(detect, o.detect)
		restore, rest = append(restore, o.restore), append(rest, o.rest)
	}
	err := r.Add(Figure{Name: fmt.Sprintf("decision to running, median, %d MiB", memoryMiB), Value: median(restore), Unit: "ms", Target: AtMost(150),
		Samples: len(restore), Parts: map[string]float64{"min": quantile(restore, 0), "max": quantile(restore, 1)},
		How: "after a power-off: from the time in the failover's Raft entry to the time in that of the restored guest"})
	if err != nil {
		return 0, err
	}
	parts := map[string]float64{"p50": median(total), "detection_p50": median(detect), "restoring_p50": median(restore), "client_p50": median(rest),
		"detection_max": quantile(detect, 1), "restoring_max": quantile(restore, 1), "client_max": quantile(rest, 1), "leaders_lost": leaders}
	return median(restore), r.Add(Figure{Name: fmt.Sprintf("outage after power-off, worst, %d MiB", memoryMiB), Value: quantile(total, 1), Unit: "ms", Target: AtMost(1000), Samples: len(total), Parts: parts,
		How: "longest time between two answers on one TCP connection; detection: power-off to the decision; client: from the guest running to the answer (the guest takes its packets, its emulator translates its code anew, or a packet is sent again)"})
}

// compare says whether restoring depends on the size of a guest, from the medians in ms.
func (r *run) compare(small, large float64) error {
	return r.Add(Figure{Name: fmt.Sprintf("decision to running, %d against %d MiB", smallMiB, largeMiB), Value: 100 * (math.Max(small, large)/math.Min(small, large) - 1), Unit: "% apart",
		Target: AtMost(20), Samples: powerOffs, How: "the larger of the two medians over the smaller, less 1; by turns in the same minutes"})
}

// outage powers off the host that g1 runs on, which need not be the managers' leader, a
// time after g1 was protected.
func (p *pathLab) outage(ctx context.Context, seed uint64, before time.Duration) (o outage, err error) {
	g, err := p.protectedAgain(ctx, "h1", 0)
	if err != nil {
		return o, err
	}
	c, err := p.StartClient(ctx, askEvery, seed)
	if err != nil {
		return o, err
	}
	if err := wait(ctx, before); err != nil {
		return o, err
	}
	s, err := p.Status(ctx, "h1")
	if err != nil {
		return o, err
	}
	// Its memory is given back when the measurement is over: hosts that are machines of their
	// own do not share the work of that, a tenth of a second for 1 GiB, with the host that
	// restores.
	at, err := p.Host(g.Primary).LosePower()
	if err != nil {
		return o, err
	}
	if _, err := p.protectedAgain(ctx, g.Backup, g.Generation); err != nil {
		return o, err
	}
	decided, running, err := p.LastFailover(ctx, g.Backup)
	if err != nil {
		return o, err
	}
	samples, err := p.stopAll([]*testbed.Client{c})
	if err != nil {
		return o, err
	}
	o = outage{total: ms(testbed.Outage(samples, at)), detect: ms(decided.Sub(at)), restore: ms(running.Sub(decided)), leader: s.Leader == g.Primary}
	o.first = ms(firstAfter(samples, running).Sub(at))
	o.rest = o.total - o.detect - o.restore
	if o.detect <= 0 || o.restore <= 0 || o.total <= 0 || o.first <= 0 {
		return o, fmt.Errorf("an outage of %+v", o)
	}
	if _, err := p.Host(g.Primary).PowerOff(); err != nil {
		return o, err
	}
	return o, p.startAgain(ctx, g.Primary)
}

// firstAfter is when the first answer came after at; zero if none did.
func firstAfter(samples []client.Sample, at time.Time) (first time.Time) {
	for _, x := range samples {
		if got := x.Sent.Add(x.Latency); got.After(at) && (first.IsZero() || got.Before(first)) {
			first = got
		}
	}
	return first
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
