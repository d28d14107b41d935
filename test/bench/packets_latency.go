package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/testbed"
)

const latencyPicture = "latency-cdf.png"

// setting is a way to protect the guest, how many clients ask it meanwhile, and for how
// long, and as long without it. Few clients: answers that leave together wait for each
// other. So the longer the epochs are, the longer it takes.
type setting struct {
	mode    core.Mode
	epoch   time.Duration
	clients int
	window  time.Duration
}

var settings = []setting{
	{core.Buffer, 5 * time.Millisecond, 3, 8 * time.Second},
	{core.Buffer, 10 * time.Millisecond, 4, 8 * time.Second},
	{core.Buffer, 25 * time.Millisecond, 6, 8 * time.Second},
	{core.Buffer, 50 * time.Millisecond, 6, 16 * time.Second},
	{core.Buffer, 100 * time.Millisecond, 8, 48 * time.Second}, // two runs of 24 s were 1 ms apart
	{core.Checkpoint, 25 * time.Millisecond, 6, 8 * time.Second},
}

// pictured is the epoch whose settings are in the picture.
const pictured = 25 * time.Millisecond

// latencyByEpoch asks a guest that is protected in each of the settings, and unprotected
// right before each.
func latencyByEpoch(ctx context.Context, r *run) error {
	p, err := r.lab(ctx, smallMiB)
	if err != nil {
		return err
	}
	defer p.Down()
	return p.steps(ctx, (*pathLab).latencySettings)
}

func (p *pathLab) latencySettings(ctx context.Context) error {
	var curves []curve
	for i, s := range settings {
		without, with, err := p.latencyOf(ctx, s, uint64(100*i))
		if err != nil {
			return fmt.Errorf("mode %s, epochs of %v: %w", s.mode, s.epoch, err)
		}
		if s.epoch == pictured && s.mode == core.Buffer {
			curves = append(curves, curve{"unprotected", without})
		}
		if s.epoch == pictured {
			curves = append(curves, curve{fmt.Sprintf("%s, epochs of %v", s.mode, s.epoch), with})
		}
	}
	return drawCDF(filepath.Join(p.run.out, latencyPicture), curves)
}

// latencyOf has the latencies in ms, and adds their figure. Its clients have numbers from
// first on: the guest remembers each.
func (p *pathLab) latencyOf(ctx context.Context, s setting, first uint64) (without, with []float64, err error) {
	var clients []*testbed.Client
	think := 2 * s.epoch // evenly from 0 to 4 epochs, whole ones: no part of an epoch gets more requests than the others
	for i := range s.clients {
		c, err := p.StartClient(ctx, think, first+uint64(i))
		if err != nil {
			return nil, nil, err
		}
		clients = append(clients, c)
	}
	from := time.Now()
	if err := wait(ctx, s.window); err != nil {
		return nil, nil, err
	}
	unprotected := span{from, time.Now()}
	var ends []time.Time
	stats, err := p.protectedFor(ctx, s.window, func() error { ends = append(ends, time.Now()); return nil },
		"--epoch", s.epoch.String(), "--mode", string(s.mode))
	if err != nil {
		return nil, nil, err
	}
	samples, err := p.stopAll(clients)
	if err != nil {
		return nil, nil, err
	}
	without, with = latencies(samples, []span{unprotected}), latencies(samples, []span{{ends[0], ends[1]}})
	f := Figure{Name: fmt.Sprintf("added latency, median, mode %s, epochs of %v", s.mode, s.epoch), Value: median(with) - median(without), Unit: "ms", Samples: min(len(without), len(with)),
		Parts: map[string]float64{"unprotected_p50": median(without), "protected_p50": median(with), "protected_p10": quantile(with, 0.1), "protected_p99": quantile(with, 0.99),
			"pause_p50": stats.PauseP50, "commit_p50": stats.CommitP50},
		How: fmt.Sprintf("%d TCP clients, each waiting 0 to %v, evenly, between an answer and its next request; unprotected right before, the same guest and clients", s.clients, 2*think)}
	if s.mode == core.Buffer {
		f.Target = AtMost(ms(s.epoch)/2 + stats.PauseP50 + 2)
		f.How += "; target: half an epoch + pause p50 + 2 ms"
	}
	p.say("mode %s, epochs of %v: %.1f ms added, pause %.1f ms, commit %.1f ms", s.mode, s.epoch, f.Value, stats.PauseP50, stats.CommitP50)
	return without, with, p.Add(f)
}
