package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/test/bench/tapnet"
)

// packets is what the output buffer and the input handler do to packets.
var packets = section{name: "packets", limit: 30 * time.Minute, run: measurePackets}

func measurePackets(ctx context.Context, r *run) error {
	for _, step := range []func(context.Context, *run) error{udpRate, tcpRate, releases, copyCost, latencyByEpoch, inputFailovers} {
		if err := step(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

const (
	rateRounds = 15 // single ones are far apart on a machine with two cores
	rateWindow = time.Second
	rateEpoch  = 10 * time.Millisecond
)

// udpRate and tcpRate load the relay from a network namespace: a guest under TCG is too slow.
func udpRate(_ context.Context, r *run) error {
	c, err := compareRates(r, "64-byte UDP", tapnet.UDP)
	if err != nil {
		return err
	}
	return r.Add(Figure{Name: "relay, 64-byte UDP over the path without it", Value: 100 * median(c.ratio), Unit: "%", Target: AtLeast(50), Samples: rateRounds,
		Parts: map[string]float64{"relay_kpps": median(c.with) / 1e3, "without_kpps": median(c.without) / 1e3, "dropped_packets": float64(c.dropped), "worst": 100 * quantile(c.ratio, 0)},
		How:   fmt.Sprintf("packets a second from a generator that writes into a tap, as QEMU does, to behind the bridge, none in 20,000 before the last has arrived; epochs of %v, released when they end; with and without in turns; the value is the median of the rounds' ratios", rateEpoch)})
}

func tcpRate(_ context.Context, r *run) error {
	c, err := compareRates(r, "TCP bulk", tapnet.TCP)
	if err != nil {
		return err
	}
	return r.Add(Figure{Name: "relay, TCP bulk over the path without it", Value: 100 * median(c.ratio), Unit: "%", Target: AtLeast(70), Samples: rateRounds,
		Parts: map[string]float64{"relay_gbit": median(c.with) * 8e-9, "without_gbit": median(c.without) * 8e-9, "dropped_packets": float64(c.dropped), "worst": 100 * quantile(c.ratio, 0), "window_mib": tapnet.TCPWindow >> 20},
		How:   fmt.Sprintf("one connection between two namespaces over a tap and a bridge, socket buffers of %d MiB at either end, GSO and checksum offload; epochs of %v; with and without in turns; the value is the median of the rounds' ratios", tapnet.TCPWindow>>20, rateEpoch)})
}

// rates are those of rounds, one with the relay and one without it in each.
type rates struct {
	with, without, ratio []float64
	dropped              uint64
}

func compareRates(r *run, what string, measure func(backend string, epoch, d time.Duration) (tapnet.Rate, error)) (c rates, err error) {
	for i := range rateRounds {
		without, err := measure("", rateEpoch, rateWindow)
		if err != nil {
			return c, fmt.Errorf("%s without a buffer: %w", what, err)
		}
		with, err := measure("relay", rateEpoch, rateWindow)
		if err != nil {
			return c, fmt.Errorf("%s through the relay: %w", what, err)
		}
		r.say("relay, %s: round %d of %d: %.0f %%", what, i+1, rateRounds, 100*with.PerSecond/without.PerSecond)
		c.with, c.without = append(c.with, with.PerSecond), append(c.without, without.PerSecond)
		c.ratio, c.dropped = append(c.ratio, with.PerSecond/without.PerSecond), c.dropped+with.Dropped
	}
	return c, nil
}
