package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	// registerPause is the wait after an attempt that failed.
	registerPause = 100 * time.Millisecond
	// registerAgain is how long what the leader has taken may take to arrive here.
	registerAgain = time.Second
	// registerTimeout bounds one attempt.
	registerTimeout = 2 * time.Second
)

// forwarder takes a command to the leader.
type forwarder = func(context.Context, core.Command) error

// Register makes this process known to the cluster and returns once this node has seen
// that, from when on State shows the present; from then on it sees to it that the cluster
// does not take an earlier process for this one. On a node that does not lead, forward is
// to take the command to the leader. It tries until ctx ends; the errors of core.Apply,
// such as core.ErrNodeNameTaken, are final.
func (c *Cluster) Register(ctx context.Context, forward forwarder) error {
	changed, stop := c.Watch()
	defer stop()
	last := errors.New("no attempt was finished")
	var next time.Time // when what the leader has taken is to be said again
	for {
		if c.State().Index > 0 {
			c.spawn(func() { c.stayRegistered(forward) })
			return nil
		}
		if wait := c.waiting(); core.Refused(wait) {
			return fmt.Errorf("register %s: %w", c.cfg.Node, wait)
		} else if wait != nil {
			last = fmt.Errorf("%w: %w", ErrNotLeader, wait)
		} else if now := time.Now(); !now.Before(next) {
			if last = c.register(ctx, forward); core.Refused(last) {
				return fmt.Errorf("register %s: %w", c.cfg.Node, last)
			}
			if last == nil {
				next, last = now.Add(registerAgain), errors.New("the leader has taken it, its log has not arrived here")
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("register %s: %w; the last attempt: %w", c.cfg.Node, ctx.Err(), last)
		case <-c.ctx.Done():
			return ErrClosed
		case <-changed:
		case <-time.After(registerPause):
		}
	}
}

// stayRegistered registers again where the cluster's record is another's: what an earlier
// process of this node has said last may have reached the leader after what this one said.
func (c *Cluster) stayRegistered(forward forwarder) {
	changed, stop := c.Watch()
	defer stop()
	for {
		var again <-chan time.Time
		if !c.registered(c.machine.state.Load()) {
			err := c.register(c.ctx, forward)
			c.log.Warn("the cluster took an earlier process for this one", "registered again", err == nil, "err", err)
			if core.Refused(err) {
				return // it is somebody else's name
			}
			again = time.After(registerPause)
		}
		select {
		case <-c.ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// registered says whether a state's record of this node is of this process.
func (c *Cluster) registered(s *core.State) bool { return s.Nodes[c.cfg.Node].Boot == c.boot }

// register is one attempt.
func (c *Cluster) register(ctx context.Context, forward forwarder) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	n := c.node()
	cmd := core.Command{Kind: core.RegisterNode, Generation: c.cfg.Noted, Node: &n}
	err := c.Propose(ctx, cmd)
	if errors.Is(err, ErrNotLeader) && forward != nil {
		return forward(ctx, cmd)
	}
	return err
}

// node is what this process tells the cluster of itself.
func (c *Cluster) node() core.Node {
	return core.Node{Name: c.cfg.Node, ID: c.cfg.ID, Addr: c.cfg.Addr, Second: c.cfg.Second, Boot: c.boot, Started: c.cfg.Started, Version: c.cfg.Version}
}
