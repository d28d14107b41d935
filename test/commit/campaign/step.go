package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/commit/rig"
)

// step is what one run does.
type step struct {
	fault  rig.Fault
	delay  time.Duration // before it
	random *rand.Rand    // for what the fault leaves open
}

// draw is the n-th step of a seed, whatever became of those before.
func draw(seed uint64, n int) step {
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	f := rig.Faults[random.IntN(len(rig.Faults))]
	return step{f, time.Duration(random.Int64N(int64(time.Second))), random}
}

// schedule is the first steps of a seed.
func schedule(seed uint64, runs int) (steps []step) {
	for n := range runs {
		steps = append(steps, draw(seed, n))
	}
	return steps
}

// once has a fault happen to a guest that is well, waits until all is well again, and
// judges all since the last time.
func (c *campaign) once(ctx context.Context, s step) (rep commit.Report, err error) {
	if err := c.rig.WaitCluster(ctx); err != nil { // a host that was booted is back
		return rep, err
	}
	p, err := c.well(ctx, 0)
	if err != nil {
		return rep, err
	}
	c.backend(ctx, p.Primary)
	wait(ctx, s.delay)
	err = c.strike(ctx, s, p)
	c.until = time.Now()
	rep, missing := c.rig.Check(c.from)
	return rep, errors.Join(err, missing, rep.Err())
}

// strike has the fault happen and waits until all is well again.
func (c *campaign) strike(ctx context.Context, s step, p trace.Event) error {
	off, err := s.fault.Do(ctx, c.rig, p, s.random)
	if err != nil {
		return err
	}
	back := make(chan error, 1)
	if off == "" {
		back <- nil
	} else { // it boots while its guest is protected again
		err = c.rig.Left(ctx, off)
		go func() { back <- c.rig.Boot(off) }()
	}
	above := uint64(0)
	if s.fault.Moves {
		above = p.Generation
	} else {
		wait(ctx, time.Second) // for what it may lead to
	}
	_, unwell := c.well(ctx, above)
	return errors.Join(err, unwell, <-back)
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
	p, err := c.rig.Protected(ctx, above, c.rig.Patience())
	if err != nil || c.load == nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.rig.Patience())
	defer cancel()
	if err := c.load.Answered(ctx, 3); err != nil {
		return p, err
	}
	return c.rig.Protected(ctx, above, c.rig.Patience()) // still, or again
}
