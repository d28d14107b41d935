package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/test/testbed"
)

const (
	inputFaults = 10 // of each kind, with the input handler and without it
	udpClients  = 20
	udpEvery    = 10 * time.Millisecond
)

// inputFault is a way for a guest to die.
type inputFault struct {
	name string
	do   func(ctx context.Context, p *pathLab, host string) (time.Time, error)
	mend func(ctx context.Context, p *pathLab, host string) error
}

var inputFaultsOf = []inputFault{
	{"power-off",
		func(_ context.Context, p *pathLab, host string) (time.Time, error) { return p.Host(host).PowerOff() },
		func(ctx context.Context, p *pathLab, host string) error { return p.startAgain(ctx, host) }},
	{"QEMU killed",
		func(ctx context.Context, p *pathLab, host string) (time.Time, error) {
			at := time.Now()
			text, err := p.Host(host).Exec(ctx, "pkill", "-KILL", "-f", "^/usr/bin/qemu-system-x86_64 -name guest=g1")
			if err != nil {
				err = fmt.Errorf("%w: %s", err, text)
			}
			return at, err
		},
		func(context.Context, *pathLab, string) error { return nil }},
}

// inputRun is one failover.
type inputRun struct {
	requests        int
	lost            testbed.Losses
	outage          float64   // TCP, ms
	latency         []float64 // UDP while nothing fails, ms
	replayed, heard float64   // packets given to the restored guest
}

// inputFailovers is what clients lose when the host loses power or QEMU is killed, with and without the
// input handler, in one lab.
func inputFailovers(ctx context.Context, r *run) error {
	p, err := r.lab(ctx, smallMiB)
	if err != nil {
		return err
	}
	defer p.Down()
	return p.steps(ctx, (*pathLab).inputFailovers)
}

func (p *pathLab) inputFailovers(ctx context.Context) error {
	for i, in := range []string{"on", "off"} {
		if text, err := p.Hamgr(ctx, "h1", "protect", "g1", "--input="+in, "--epoch", epoch.String()); err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		for j, fault := range inputFaultsOf {
			runs, err := p.inputRuns(ctx, in, fault, uint64(1000*(2*i+j+1)))
			if err != nil {
				return err
			}
			if err := p.addInput(in, fault.name, runs); err != nil {
				return err
			}
		}
		g, err := p.protectedAgain(ctx, "h1", 0)
		if err != nil {
			return err
		}
		if text, err := p.Hamgr(ctx, "h1", "unprotect", "g1"); err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		if err := p.released(ctx, g.Primary); err != nil {
			return err
		}
	}
	return nil
}

// inputRuns are with clients of seeds, and so names, that no earlier ones had.
func (p *pathLab) inputRuns(ctx context.Context, in string, fault inputFault, first uint64) (runs []inputRun, err error) {
	for i := range inputFaults {
		r, err := p.inputFailover(ctx, fault, first+uint64(i))
		if err != nil {
			return nil, err
		}
		p.say("input %s, %s %d of %d: of %d requests %s; TCP outage %.0f ms; %.0f copies and %.0f later packets delivered",
			in, fault.name, i+1, inputFaults, r.requests, r.lost, r.outage, r.replayed, r.heard)
		runs = append(runs, r)
	}
	return runs, nil
}

// inputFailover has g1 die where it runs, and mends that.
func (p *pathLab) inputFailover(ctx context.Context, fault inputFault, seed uint64) (r inputRun, err error) {
	g, err := p.protectedAgain(ctx, "h1", 0)
	if err != nil {
		return r, err
	}
	tcp, err := p.StartClient(ctx, askEvery, seed)
	if err != nil {
		return r, err
	}
	udp, err := p.StartUDPClients(ctx, udpClients, udpEvery, seed)
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := wait(ctx, settle); err != nil {
		return r, err
	}
	at, err := fault.do(ctx, p, g.Primary)
	if err != nil {
		return r, err
	}
	now, err := p.protectedAgain(ctx, g.Backup, g.Generation)
	if err != nil {
		return r, err
	}
	_, running, err := p.LastFailover(ctx, g.Backup)
	if err != nil {
		return r, err
	}
	if err := wait(ctx, settle); err != nil {
		return r, err
	}
	result, err := udp.Stop(p.Bed)
	if err != nil {
		return r, err
	}
	if r.lost, err = testbed.LossesOf(result, at, running); err != nil {
		return r, err
	}
	samples, err := p.stopAll([]*testbed.Client{tcp})
	if err != nil {
		return r, err
	}
	r.requests, r.outage = result.Requests, ms(testbed.Outage(samples, at))
	r.latency = latencies(udp.Samples(), []span{{began, at.Add(-settle / 4)}})
	if now.Stats != nil {
		r.replayed, r.heard = float64(now.Stats.InputReplayed), float64(now.Stats.InputHeard)
	}
	return r, fault.mend(ctx, p, g.Primary)
}

func (p *pathLab) addInput(in, fault string, runs []inputRun) error {
	sum := map[string]float64{}
	var worst float64
	var outages, latency, replayed, heard []float64
	for _, r := range runs {
		worst = max(worst, float64(r.lost.Total()))
		sum["before"] += float64(r.lost.Before)
		sum["in_flight"] += float64(r.lost.Flight)
		sum["sent_before_it_was_back"] += float64(r.lost.Window)
		sum["after"] += float64(r.lost.After)
		sum["requests_in_all"] += float64(r.requests)
		if r.lost.Total() > 0 {
			sum["failovers_with_a_loss"]++
		}
		outages, latency = append(outages, r.outage), append(latency, r.latency...)
		replayed, heard = append(replayed, r.replayed), append(heard, r.heard)
	}
	sum["latency_ms_p50"], sum["copies_delivered_p50"], sum["later_packets_delivered_p50"] = median(latency), median(replayed), median(heard)
	f := Figure{Name: fmt.Sprintf("UDP requests lost over a failover, worst, %s, input handler %s", fault, in), Value: worst, Unit: "requests", Samples: len(runs), Parts: sum,
		How: fmt.Sprintf("%d clients, each with one request under way, and on the average %d ms between an answer and the next request; lost: no answer in 3 s. Of a power-off the switch knows at once, of a killed QEMU when the guest is announced. Parts are sums over all failovers; latency while nothing fails", udpClients, udpEvery.Milliseconds())}
	if in == "on" {
		f.Target = AtMost(0)
	}
	if err := p.Add(f); err != nil {
		return err
	}
	return p.Add(Figure{Name: fmt.Sprintf("outage over TCP, median, %s, input handler %s", fault, in), Value: median(outages), Unit: "ms", Samples: len(outages),
		Parts: map[string]float64{"min": quantile(outages, 0), "max": quantile(outages, 1)},
		How:   "longest time between two answers on one TCP connection, in the same failovers"})
}
