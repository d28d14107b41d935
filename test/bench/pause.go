package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/agent"
)

const (
	pauseRounds = 4 // an even number: each side comes first as often
	pauseWindow = 6 * time.Second
)

// load is what a guest does while it is measured.
type load struct{ name, ledger string }

var loads = []load{
	{"idle", "/dirty?pages_per_s=0"},
	{"dirtying", "/dirty?pages_per_s=8000&mb=24"},
}

// pauses compares the agent with a reader that drops all it gets, and counts what goes
// over the network meanwhile.
func (p *pathLab) pauses(ctx context.Context) error {
	for _, l := range loads {
		if _, err := p.Ledger(ctx, l.ledger); err != nil {
			return err
		}
		var c comparison
		for i := range pauseRounds {
			if err := c.round(ctx, p, i%2 == 1); err != nil {
				return err
			}
			p.say("pause, %s guest: round %d of %d: agent %.2f ms, bare stream %.2f ms", l.name, i+1, pauseRounds, c.agent50[i], c.bare50[i])
		}
		if err := c.add(p.Report, l); err != nil {
			return err
		}
	}
	_, err := p.Ledger(ctx, "/dirty?pages_per_s=0&mb=0")
	return err
}

// comparison is what the rounds have measured; pauses in ms.
type comparison struct {
	agent50, agent99, bare50, bare99, dirty, bareDirty []float64
	ratio50, ratio99                                   []float64
	epochs, bareEpochs                                 int
	net                                                traffic
}

// bare is what colodrain prints.
type bare struct {
	Epochs   int     `json:"epochs"`
	PauseP50 float64 `json:"pause_ms_p50"`
	PauseP99 float64 `json:"pause_ms_p99"`
	DirtyP50 int64   `json:"dirty_pages_p50"`
}

// round measures both, one after the other; agentFirst swaps them.
func (c *comparison) round(ctx context.Context, p *pathLab, agentFirst bool) error {
	var a agent.Stats
	var b bare
	turns := []func() error{
		func() (err error) { b, err = p.drain(ctx); return err },
		func() (err error) {
			a, err = p.protectedFor(ctx, pauseWindow, func() error { return c.net.count(ctx, p) })
			return err
		},
	}
	if agentFirst {
		turns[0], turns[1] = turns[1], turns[0]
	}
	for _, turn := range turns {
		if err := turn(); err != nil {
			return err
		}
	}
	c.agent50, c.agent99 = append(c.agent50, a.PauseP50), append(c.agent99, a.PauseP99)
	c.bare50, c.bare99 = append(c.bare50, b.PauseP50), append(c.bare99, b.PauseP99)
	c.dirty, c.bareDirty = append(c.dirty, float64(a.DirtyP50)), append(c.bareDirty, float64(b.DirtyP50))
	c.ratio50, c.ratio99 = append(c.ratio50, a.PauseP50/b.PauseP50), append(c.ratio99, a.PauseP99/b.PauseP99)
	c.epochs, c.bareEpochs = c.epochs+int(a.Epochs), c.bareEpochs+b.Epochs
	return nil
}

func (p *pathLab) drain(ctx context.Context) (b bare, err error) {
	text, err := p.Host("h1").Command(ctx, "/opt/hamgr/bin/colodrain", "-epoch", epoch.String(), "-for", pauseWindow.String()).Output()
	if err != nil {
		return b, fmt.Errorf("colodrain: %w", err)
	}
	return b, json.Unmarshal(text, &b)
}

const howPause = "from sending CHECKPOINT_REPLY to sending VMSTATE_LOADED, the same for both; the bare stream is read by qmp/colo " +
	"into a sink that keeps nothing; per round one after the other on the same guest, in turns; the value is the median of the rounds' ratios"

func (c *comparison) add(r *Report, l load) error {
	parts := func(agent, bare []float64) map[string]float64 {
		return map[string]float64{"agent_ms": median(agent), "bare_ms": median(bare), "agent_epochs": float64(c.epochs),
			"bare_epochs": float64(c.bareEpochs), "agent_dirty_pages": median(c.dirty), "bare_dirty_pages": median(c.bareDirty)}
	}
	err := r.Add(Figure{Name: "pause p50, agent over bare stream, " + l.name + " guest", Value: median(c.ratio50), Unit: "x",
		Target: AtMost(1.3), Samples: len(c.ratio50), Parts: parts(c.agent50, c.bare50), How: howPause})
	if err != nil {
		return err
	}
	err = r.Add(Figure{Name: "pause p99, agent over bare stream, " + l.name + " guest", Value: median(c.ratio99), Unit: "x",
		Samples: len(c.ratio99), Parts: parts(c.agent99, c.bare99), How: howPause})
	if err != nil {
		return err
	}
	return c.net.add(r, l)
}

// traffic is what left the primary's host on the management network, and the pages it
// was for.
type traffic struct {
	began                        bool
	bytes, payload, pages, zeros uint64
	lastBytes                    uint64
	last                         agent.Stats
}

// count is called at the beginning and at the end of each stretch.
func (t *traffic) count(ctx context.Context, p *pathLab) error {
	stats, err := p.stats(ctx)
	if err != nil {
		return err
	}
	text, err := p.Host("h1").Exec(ctx, "cat", "/sys/class/net/eth0/statistics/tx_bytes")
	if err != nil {
		return err
	}
	sent, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return err
	}
	if t.began {
		t.bytes += sent - t.lastBytes
		t.payload += stats.BytesSent - t.last.BytesSent
		t.pages += stats.Pages - t.last.Pages
		t.zeros += stats.ZeroPages - t.last.ZeroPages
	}
	t.began, t.lastBytes, t.last = !t.began, sent, stats
	return nil
}

func (t *traffic) add(r *Report, l load) error {
	err := r.Add(Figure{Name: "network bytes per dirtied page, " + l.name + " guest", Value: float64(t.bytes) / float64(t.pages), Unit: "B",
		Samples: int(t.pages), Parts: map[string]float64{"of_checkpoints": float64(t.payload) / float64(t.pages)},
		How: "sent by the primary's management interface (veth: few headers are counted; device state, heartbeats and Raft among it) over pages in checkpoints"})
	if err != nil {
		return err
	}
	return r.Add(Figure{Name: "zero pages among the dirtied, " + l.name + " guest", Value: 100 * float64(t.zeros) / float64(t.pages), Unit: "%",
		Samples: int(t.pages), How: "pages that QEMU sent as a fill of zeros, over all pages in checkpoints"})
}
