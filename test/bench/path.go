package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/agent"
	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/testbed"
)

// path is the way from a protected guest to its backup: what it costs while nothing
// fails, and what a failure costs.
var path = section{name: "path", limit: 15 * time.Minute, run: measurePath}

const (
	smallMiB, largeMiB = 128, 1024
	epoch              = core.DefaultEpoch
)

// sizes are the guests', and what is measured of each once.
var sizes = []struct {
	memoryMiB uint
	once      []step
}{
	{smallMiB, []step{(*pathLab).pauses, (*pathLab).latency, (*pathLab).memory}},
	{largeMiB, []step{(*pathLab).memory}},
}

// measurePath has the guests fail over by turns, so that what the machine does besides
// falls on both sizes alike, and each while no other lab runs: what a client waits for at
// the end is a guest whose code its emulator has to translate anew, and needs a core for.
func measurePath(ctx context.Context, r *run) error {
	found := map[uint][]outage{}
	for round := range powerOffs / inARow {
		for _, size := range sizes {
			var steps []step
			if round == 0 {
				steps = size.once
			}
			more, err := r.round(ctx, size.memoryMiB, round, steps)
			if err != nil {
				return err
			}
			found[size.memoryMiB] = append(found[size.memoryMiB], more...)
		}
	}
	return r.addOutages(found)
}

// round measures in a lab of its own.
func (r *run) round(ctx context.Context, memoryMiB uint, number int, steps []step) ([]outage, error) {
	p, err := r.lab(ctx, memoryMiB)
	if err != nil {
		return nil, err
	}
	defer p.Down()
	if err := p.steps(ctx, steps...); err != nil {
		return nil, err
	}
	found, err := p.outages(ctx, number*inARow)
	return found, p.of(err)
}

// pathLab is a lab of three hosts with a guest g1, on h1 at first.
type pathLab struct {
	*run
	*testbed.Bed
	memoryMiB uint // of g1
}

// lab makes one; whoever has it ends it.
func (r *run) lab(ctx context.Context, memoryMiB uint) (*pathLab, error) {
	r.say("a lab of three hosts, a guest of %d MiB", memoryMiB)
	bed, err := testbed.Up(ctx, testbed.Options{Hosts: 3, Out: filepath.Join(r.out, fmt.Sprint(memoryMiB)),
		Programs: []string{"test/bench/colodrain"}, Progress: io.Discard})
	if err != nil {
		return nil, err
	}
	p := &pathLab{run: r, Bed: bed, memoryMiB: memoryMiB}
	if err := p.steps(ctx, (*pathLab).begin); err != nil {
		bed.Down()
		return nil, err
	}
	return p, nil
}

// step is something to do in a lab.
type step func(*pathLab, context.Context) error

func (p *pathLab) steps(ctx context.Context, steps ...step) error {
	for _, step := range steps {
		if err := step(p, ctx); err != nil {
			return p.of(err)
		}
	}
	return nil
}

// of says in which lab an error was.
func (p *pathLab) of(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("guest of %d MiB: %w; logs are in %s/logs", p.memoryMiB, err, p.Out)
}

func (p *pathLab) begin(ctx context.Context) error {
	if err := p.WaitCluster(ctx); err != nil {
		return err
	}
	for name, command := range map[string]string{
		"qemu": "qemu-system-x86_64 --version", "libvirt": "libvirtd --version",
	} {
		text, err := p.Host("h1").Exec(ctx, strings.Fields(command)...)
		if err != nil {
			return err
		}
		p.Versions[name], _, _ = strings.Cut(text, "\n")
	}
	return p.StartGuest(ctx, "h1", p.memoryMiB)
}

// protectedFor protects g1 anew, with these options more, calls during with its
// measurements when it has just become protected and again after a time, and ends the
// protection.
func (p *pathLab) protectedFor(ctx context.Context, d time.Duration, during func() error, options ...string) (agent.Stats, error) {
	if text, err := p.Hamgr(ctx, "h1", append([]string{"protect", "g1", "--epoch", epoch.String()}, options...)...); err != nil {
		return agent.Stats{}, fmt.Errorf("%w: %s", err, text)
	}
	if err := during(); err != nil {
		return agent.Stats{}, err
	}
	if err := wait(ctx, d); err != nil {
		return agent.Stats{}, err
	}
	if err := during(); err != nil {
		return agent.Stats{}, err
	}
	stats, err := p.stats(ctx)
	if err != nil {
		return stats, err
	}
	if _, err = p.Hamgr(ctx, "h1", "unprotect", "g1"); err != nil {
		return stats, err
	}
	return stats, p.released(ctx, "h1")
}

// released waits until QEMU has left its session on a host: unprotect does not.
func (p *pathLab) released(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		job, err := p.Host(host).Exec(ctx, "virsh", "-q", "qemu-monitor-command", "g1", `{"execute":"query-migrate"}`)
		if err != nil {
			return err
		}
		state, err := p.Host(host).Exec(ctx, "virsh", "-q", "domstate", "g1")
		if err != nil {
			return err
		}
		if strings.Contains(job, `"completed"`) && strings.HasPrefix(state, "running") {
			return nil
		}
	}
}

// stats are those of g1 on h1, since it was last protected.
func (p *pathLab) stats(ctx context.Context) (agent.Stats, error) {
	s, err := p.Status(ctx, "h1")
	if err != nil {
		return agent.Stats{}, err
	}
	if len(s.Protections) != 1 || s.Protections[0].Stats == nil || s.Protections[0].Stats.Epochs == 0 {
		return agent.Stats{}, fmt.Errorf("no measurements of g1 in %+v", s.Protections)
	}
	return *s.Protections[0].Stats, nil
}

// protectedAgain waits until g1 is protected in a generation after the given one.
func (p *pathLab) protectedAgain(ctx context.Context, ask string, after uint64) (api.ProtectionStatus, error) {
	s, err := p.WaitStatus(ctx, ask, time.Minute, "g1 is protected", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected && g.Generation > after
	})
	if err != nil {
		return api.ProtectionStatus{}, err
	}
	return s.Protections[0], nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
