package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hamgr/hamgr/test/testbed"
)

// failover is how soon a cluster acts, and that it does not act without need.
var failover = section{name: "failover", limit: 40 * time.Minute, run: measureFailover}

const (
	hostDeaths = 30
	qemuDeaths = 20
	drains     = 10
	busyFor    = 10 * time.Minute
	// known is how long the detector needs to know how regular a peer is.
	known = 6 * time.Second
	// gapTarget of a drain: two epochs and 100 ms.
	gapTarget = 2*epoch + 100*time.Millisecond
)

func measureFailover(ctx context.Context, r *run) error {
	if err := r.decideTimes(ctx); err != nil {
		return err
	}
	p, err := r.lab(ctx, smallMiB)
	if err != nil {
		return err
	}
	defer p.Down()
	return p.steps(ctx, (*pathLab).cold, (*pathLab).hostDeaths, (*pathLab).qemuDeaths, (*pathLab).drains, (*pathLab).busy)
}

func (p *pathLab) hostDeaths(ctx context.Context) error {
	if text, err := p.Hamgr(ctx, "h1", "protect", "g1"); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	var detect, restore, rest, first []float64
	leaders := 0.0
	for i := range hostDeaths {
		o, err := p.outage(ctx, uint64(200+i), known)
		if err != nil {
			return err
		}
		p.say("power-off %d of %d: first reply after %.0f ms = detection %.0f + restoring %.1f + the client %.0f%s", i+1, hostDeaths, o.first, o.detect, o.restore, o.first-o.detect-o.restore, o.note())
		if o.leader {
			leaders++
		}
		detect, restore = append(detect, o.detect), append(restore, o.restore)
		first, rest = append(first, o.first), append(rest, o.first-o.detect-o.restore)
	}
	parts := map[string]float64{"detection_p50": median(detect), "restoring_p50": median(restore), "client_p50": median(rest),
		"detection_p99": quantile(detect, 0.99), "restoring_p99": quantile(restore, 0.99), "client_p99": quantile(rest, 0.99), "leaders_lost": leaders}
	for _, f := range []Figure{
		{Name: "power-off to decision, p50", Value: median(detect), Target: AtMost(120), How: "to the time in the failover's Raft entry, with the defaults"},
		{Name: "power-off to decision, p99", Value: quantile(detect, 0.99), Target: AtMost(250), How: "the worst but none of so few"},
		{Name: "power-off to first reply, p50", Value: median(first), Target: AtMost(400), Parts: parts,
			How: "on the TCP connection that was there before, asked every 8 ms on the average; client: what both ends retransmit when"},
		{Name: "power-off to first reply, p99", Value: quantile(first, 0.99), Target: AtMost(800), Parts: parts, How: "the worst but none of so few"},
	} {
		f.Unit, f.Samples = "ms", hostDeaths
		if err := p.Add(f); err != nil {
			return err
		}
	}
	return nil
}

// qemuDeaths kills QEMU under the guest; its host lives.
func (p *pathLab) qemuDeaths(ctx context.Context) error {
	var found []float64
	for i := range qemuDeaths {
		g, err := p.protectedAgain(ctx, "h1", 0)
		if err != nil {
			return err
		}
		text, err := p.Host(g.Primary).Exec(ctx, "sh", "-c", `pid=$(pgrep -x qemu-system-x86); date +%s%N; kill -9 $pid`)
		if err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return err
		}
		if _, err := p.protectedAgain(ctx, "h1", g.Generation); err != nil {
			return err
		}
		decided, _, err := p.LastFailover(ctx, "h1")
		if err != nil {
			return err
		}
		found = append(found, ms(decided.Sub(time.Unix(0, ns))))
		p.say("QEMU killed, %d of %d: decision after %.1f ms", i+1, qemuDeaths, found[i])
	}
	return p.Add(Figure{Name: "QEMU killed to decision, p50", Value: median(found), Unit: "ms", Target: AtMost(20), Samples: len(found),
		Parts: map[string]float64{"min": quantile(found, 0), "max": quantile(found, 1)}, How: "kill -9 on the primary's host, to the time in the failover's Raft entry"})
}

// drains empties the guest's host, again and again.
func (p *pathLab) drains(ctx context.Context) error {
	c, err := p.StartClient(ctx, askEvery, 300)
	if err != nil {
		return err
	}
	var gaps, own []float64
	for i := range drains {
		g, err := p.protectedAgain(ctx, "h1", 0)
		if err != nil {
			return err
		}
		if err := wait(ctx, settle); err != nil {
			return err
		}
		from := time.Now()
		if text, err := p.Hamgr(ctx, "h1", "drain", g.Primary); err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		to := time.Now()
		if _, err := p.Hamgr(ctx, "h1", "undrain", g.Primary); err != nil {
			return err
		}
		if err := wait(ctx, settle); err != nil {
			return err
		}
		_, running, err := p.LastFailover(ctx, "h1")
		if err != nil {
			return err
		}
		gaps = append(gaps, ms(testbed.LongestGap(c.Samples(), from, to.Add(time.Second))))
		own = append(own, ms(firstAfter(c.Samples(), running).Sub(running)))
		p.say("drain %d of %d: longest gap %.0f ms, %.0f of it from the guest running to its answer", i+1, drains, gaps[i], own[i])
	}
	if _, err := p.stopAll([]*testbed.Client{c}); err != nil {
		return err
	}
	return p.Add(Figure{Name: "drain of one VM, longest gap", Value: quantile(gaps, 1), Unit: "ms", Target: AtMost(ms(gapTarget)), Samples: len(gaps),
		Parts: map[string]float64{"p50": median(gaps), "guest_p50": median(own), "guest_max": quantile(own, 1)},
		How:   "between two answers on one TCP connection, the worst of all drains; nothing lost; target: two epochs and 100 ms. guest: of that, from the guest running to its answer; its emulator translates all code anew, which KVM does not do"})
}

// busy keeps both cores, or all there are, busy: nobody may be suspected for that.
func (p *pathLab) busy(ctx context.Context) error {
	before, err := p.suspicions(ctx)
	if err != nil {
		return err
	}
	p.say("all cores are busy for %v", busyFor)
	if err := burn(ctx, busyFor); err != nil {
		return err
	}
	after, err := p.suspicions(ctx)
	if err != nil {
		return err
	}
	return p.Add(Figure{Name: "false suspicions, all cores busy", Value: after - before, Unit: "", Target: AtMost(0), Samples: int(busyFor.Minutes()),
		How: fmt.Sprintf("in %v with a protected guest, a busy loop at usual priority on each core: how often any of three nodes began to suspect another", busyFor)})
}

// suspicions is how often any node has begun to suspect another.
func (p *pathLab) suspicions(ctx context.Context) (n float64, err error) {
	for _, h := range []string{"h1", "h2", "h3"} {
		s, err := p.Status(ctx, h)
		if err != nil {
			return 0, err
		}
		for _, x := range s.Nodes {
			n += float64(x.Suspicions)
		}
	}
	return n, nil
}

// decideTimes runs the core's own benchmark, in this module's source.
func (r *run) decideTimes(ctx context.Context) error {
	times, err := goBench(ctx, "BenchmarkDecide", "./hamgr/core")
	if err != nil {
		return err
	}
	parts := map[string]float64{}
	for name, ns := range times {
		if size, ok := strings.CutPrefix(strings.TrimSuffix(name, "/dead"), "BenchmarkDecide/nodes="); ok && strings.HasSuffix(name, "/dead") {
			parts["nodes_"+size] = ns / 1e6
		}
	}
	return r.Add(Figure{Name: "decide, one host of 1,000 dead, 10,000 VMs", Value: parts["nodes_1000"], Unit: "ms", Samples: len(parts), Parts: parts,
		How: "core.Decide on the leader, one round, for all guests of one dead host: its ten failovers and ten lost backups; ten VMs a node"})
}
