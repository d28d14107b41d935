package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/commit/rig"
	"github.com/hamgr/hamgr/test/lab"
)

type options struct {
	runs  int
	seed  uint64
	hosts string
	out   string
}

// campaign is one rig and what it went through.
type campaign struct {
	options
	rig    *rig.Rig
	load   *load.Load
	random *rand.Rand
	sum    commit.Report
	result result
}

const (
	requestEvery = 25 * time.Millisecond // of each of the eight flows
	// longest a guest may take to be protected again on a busy machine, and a client to
	// be answered again.
	patience = 90 * time.Second
	// In mode checkpoint there is one failure more for so many, and clients that ask more
	// often: what is seen and rolled back comes from the last epoch only.
	ofRollback     = 20
	minRollback    = 5
	rollBackSooner = 5 * time.Millisecond
)

// begin brings everything up, with the guest protected and asked.
func begin(ctx context.Context, o options) (*campaign, error) {
	kind := lab.Kind(o.hosts)
	if kind != lab.Container && kind != lab.UML {
		return nil, fmt.Errorf("no hosts of kind %q; there are %s and %s", kind, lab.Container, lab.UML)
	}
	r, err := rig.Up(ctx, rig.Options{Kind: kind, Out: o.out, Progress: os.Stdout})
	if err != nil {
		return nil, err
	}
	c := &campaign{options: o, rig: r, random: rand.New(rand.NewPCG(o.seed, 0))}
	c.result = newResult(ctx, o, r)
	if text, err := r.Hamgr(ctx, "h1", "protect", "g1"); err != nil {
		r.Down()
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return c, nil
}

// buffer fails the guest's hosts again and again, over one load whose connections live on.
func (c *campaign) buffer(ctx context.Context) (err error) {
	if c.load, err = c.rig.Load(requestEvery, c.seed); err != nil {
		return err
	}
	for n := range c.runs {
		f := rig.Faults[c.random.IntN(len(rig.Faults))]
		began := time.Now()
		rep, err := c.once(ctx, f)
		c.account(f, rep)
		if err == nil {
			err = rep.Err()
		}
		if err != nil {
			c.result.Failed = &failed{Run: n + 1, Kind: f.Name, Cause: err.Error()}
			return errors.Join(fmt.Errorf("run %d, %s: %w", n+1, f.Name, err), c.keep(rep, began))
		}
		fmt.Printf("%3d/%d %-13s silent for %5.0f ms, %4d frames held, all explained; %.0f s\n", n+1, c.runs, f.Name, rep.Silence, rep.Held, time.Since(began).Seconds())
	}
	for _, f := range c.load.Stop() {
		if f.Error != "" {
			return fmt.Errorf("%s: %s", f.Flow, f.Error)
		}
	}
	return nil
}

// once waits for a random time, has a fault happen, waits until all is well again, and
// judges all since it began.
func (c *campaign) once(ctx context.Context, f rig.Fault) (rep commit.Report, err error) {
	if err := c.rig.WaitCluster(ctx); err != nil { // a host that was booted is back
		return rep, err
	}
	from := time.Now()
	p, err := c.well(ctx, 0)
	if err != nil {
		return rep, err
	}
	c.backend(ctx, p.Primary)
	wait(ctx, time.Duration(c.random.Int64N(int64(time.Second))))
	off, err := f.Do(ctx, c.rig, p, c.random)
	if err != nil {
		return rep, err
	}
	above := uint64(0)
	if f.Moves {
		above = p.Generation
	} else {
		wait(ctx, time.Second) // for what it may lead to
	}
	_, failed := c.well(ctx, above)
	if off != "" {
		failed = errors.Join(failed, c.rig.Boot(off))
	}
	rep, err = c.rig.Check(from)
	c.rig.Forget(from)
	return rep, errors.Join(failed, err)
}

// backend notes what holds the output, once.
func (c *campaign) backend(ctx context.Context, primary string) {
	if c.result.Backend != "" {
		return
	}
	s, err := c.rig.Status(ctx, primary)
	if err == nil && len(s.Protections) == 1 && s.Protections[0].Stats != nil {
		c.result.Backend = s.Protections[0].Stats.Backend
	}
}

// well waits until g1 is protected, in a generation above the given one, and every flow is answered.
func (c *campaign) well(ctx context.Context, above uint64) (trace.Event, error) {
	p, err := c.rig.Protected(ctx, above, patience)
	if err != nil || c.load == nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.load.Answered(ctx, 3); err != nil {
		return p, err
	}
	return c.rig.Protected(ctx, above, patience) // still, or again
}

// checkpoint fails hosts while output is not held.
func (c *campaign) checkpoint(ctx context.Context) error {
	c.load = nil
	p, err := c.well(ctx, 0)
	if err != nil {
		return err
	}
	if text, err := c.rig.Hamgr(ctx, p.Primary, "mode", "g1", "checkpoint"); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	for n := range max(minRollback, c.runs/ofRollback) {
		l, err := c.rig.Load(rollBackSooner, c.seed+uint64(n))
		if err != nil {
			return err
		}
		began := time.Now()
		rep, err := c.once(ctx, rig.Faults[0])
		l.Abort()
		if err == nil {
			err = rep.Err()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("mode checkpoint, run %d: %w", n+1, err), c.keep(rep, began))
		}
		c.result.Checkpoint.add(rep)
		fmt.Printf("mode checkpoint, %s: %d frames were seen and rolled back, %d contradictions\n", rig.Faults[0].Name, rep.RolledBackFrames, rep.Rollbacks)
	}
	if c.result.Checkpoint.Frames == 0 {
		return errors.New("mode checkpoint rolled nothing back: then this does not see rollbacks, or something is held")
	}
	return nil
}

func (c *campaign) account(f rig.Fault, rep commit.Report) {
	c.result.add(f.Name, rep)
	c.sum.Merge(rep)
}

// keep saves the evidence of a run that went wrong.
func (c *campaign) keep(rep commit.Report, from time.Time) error {
	dir := filepath.Join(c.out, "violation")
	err := c.rig.Save(dir, from)
	return errors.Join(err, rep.Plot(filepath.Join(dir, "commit.png")))
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
