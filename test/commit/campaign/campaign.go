package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	from   time.Time // all before is judged
	until  time.Time // and all before this in the report at hand
	sum    commit.Report
	result result
}

const (
	requestEvery = 25 * time.Millisecond // of each of the eight flows
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
	c := &campaign{options: o, rig: r, from: r.Began}
	c.result = newResult(ctx, o, r)
	if err := r.Protect(ctx); err != nil {
		r.Down()
		return nil, err
	}
	return c, nil
}

// buffer fails the guest's hosts again and again, over one load whose connections live on.
func (c *campaign) buffer(ctx context.Context, steps []step) (err error) {
	if c.load, err = c.rig.Load(requestEvery, c.seed); err != nil {
		return err
	}
	for n, s := range steps {
		began := time.Now()
		rep, err := c.once(ctx, s)
		c.account(s.fault, rep)
		if err != nil {
			c.result.Failed = &failed{Run: n + 1, Kind: s.fault.Name, Cause: err.Error()}
			return errors.Join(fmt.Errorf("run %d, %s: %w", n+1, s.fault.Name, err), c.keep(rep))
		}
		fmt.Printf("%3d/%d %-13s silent for %5.0f ms, %4d frames held, all explained; %.0f s\n", n+1, len(steps), s.fault.Name, rep.Silence, rep.Held, time.Since(began).Seconds())
		c.goOn()
	}
	if err := c.rest(ctx); err != nil {
		return fmt.Errorf("after the last run: %w", err)
	}
	for _, f := range c.load.Stop() {
		if f.Error != "" {
			return fmt.Errorf("%s: %s", f.Flow, f.Error)
		}
	}
	return nil
}

// rest judges the requests of the last run that had yet to be answered.
func (c *campaign) rest(ctx context.Context) error {
	wait(ctx, c.rig.Answer())
	c.until = time.Now()
	rep, err := c.rig.Check(c.from)
	c.result.count(rep)
	c.sum.Merge(rep)
	if err = errors.Join(err, rep.Err()); err != nil {
		return errors.Join(err, c.keep(rep))
	}
	c.goOn()
	return nil
}

// checkpoint fails hosts while output is not held.
func (c *campaign) checkpoint(ctx context.Context) error {
	c.load = nil
	p, err := c.well(ctx, 0)
	if err != nil {
		return err
	}
	if text, err := c.rig.Tell(ctx, p.Primary, "mode", "g1", "checkpoint"); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	for n := range max(minRollback, c.runs/ofRollback) {
		l, err := c.rig.Load(rollBackSooner, c.seed+uint64(n))
		if err != nil {
			return err
		}
		s := draw(c.seed, c.runs+n)
		s.fault = rig.Faults[0]
		rep, err := c.once(ctx, s)
		l.Abort()
		if err != nil {
			return errors.Join(fmt.Errorf("mode checkpoint, run %d: %w", n+1, err), c.keep(rep))
		}
		c.goOn()
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

// goOn lets the next check begin where this one ended.
func (c *campaign) goOn() {
	c.from = c.until
	c.rig.Forget(c.from)
}

// keep saves the evidence of a run that went wrong.
func (c *campaign) keep(rep commit.Report) error {
	dir := filepath.Join(c.out, "violation")
	err := c.rig.Save(dir, c.from)
	return errors.Join(err, rep.Plot(filepath.Join(dir, "commit.png")))
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
