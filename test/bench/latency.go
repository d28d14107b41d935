package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/test/guest/client"
	"github.com/hamgr/hamgr/test/testbed"
)

const (
	latencyClients = 6
	latencyRounds  = 2
	latencyWindow  = 6 * time.Second
	// thinkTime is the mean of a client's uniform wait between two requests: 0 to 4
	// epochs, so that requests fall anywhere in an epoch though the last answer came at
	// the end of one.
	thinkTime = 2 * epoch
)

// latency is that of clients of the unprotected and of the protected guest, in turns.
func (p *pathLab) latency(ctx context.Context) error {
	var clients []*testbed.Client
	for i := range latencyClients {
		c, err := p.StartClient(ctx, thinkTime, uint64(i+1))
		if err != nil {
			return err
		}
		clients = append(clients, c)
	}
	var without, with []span
	var pause, commit []float64
	for i := range latencyRounds {
		from := time.Now()
		if err := wait(ctx, latencyWindow); err != nil {
			return err
		}
		without = append(without, span{from, time.Now()})
		var ends []time.Time
		stats, err := p.protectedFor(ctx, latencyWindow, func() error { ends = append(ends, time.Now()); return nil })
		if err != nil {
			return err
		}
		with = append(with, span{ends[0], ends[1]})
		pause, commit = append(pause, stats.PauseP50), append(commit, stats.CommitP50)
		p.say("latency: round %d of %d", i+1, latencyRounds)
	}
	samples, err := p.stopAll(clients)
	if err != nil {
		return err
	}
	return p.addLatency(latencies(samples, without), latencies(samples, with), median(pause), median(commit))
}

// stopAll ends the clients; all answers must have been right.
func (p *pathLab) stopAll(clients []*testbed.Client) (all []client.Sample, err error) {
	for _, c := range clients {
		r, err := c.Stop(p.Bed)
		if err != nil {
			return nil, err
		}
		if r.Error != "" || r.Lost+r.RolledBack > 0 || r.TCPReset {
			return nil, fmt.Errorf("a client saw the promise broken: %+v", r)
		}
		all = append(all, c.Samples()...)
	}
	return all, nil
}

func (p *pathLab) addLatency(without, with []float64, pause, commit float64) error {
	return p.Add(Figure{Name: fmt.Sprintf("added latency, median, epochs of %d ms", epoch.Milliseconds()),
		Value: median(with) - median(without), Unit: "ms", Target: AtMost(ms(epoch)/2 + pause + 3), Samples: min(len(without), len(with)),
		Parts: map[string]float64{"unprotected_p50": median(without), "protected_p50": median(with), "unprotected_p99": quantile(without, 0.99),
			"protected_p99": quantile(with, 0.99), "pause_p50": pause, "commit_p50": commit, "requests_unprotected": float64(len(without)), "requests_protected": float64(len(with))},
		How: fmt.Sprintf("%d TCP clients, each waiting 0 to %d ms between an answer and its next request; protected and unprotected in turns on the same guest; target: half an epoch + pause p50 + 3 ms", latencyClients, 2*thinkTime.Milliseconds())})
}

// span is a time from one moment to another.
type span struct{ from, to time.Time }

// latencies are those of requests sent and answered in one of the spans, in ms.
func latencies(samples []client.Sample, spans []span) (out []float64) {
	for _, x := range samples {
		for _, s := range spans {
			if x.Sent.After(s.from) && x.Sent.Before(s.to) {
				out = append(out, ms(x.Latency))
			}
		}
	}
	return out
}
