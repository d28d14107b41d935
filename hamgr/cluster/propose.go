package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

var (
	// ErrNotLeader: this node cannot propose; errors.As with *NotLeaderError says who can.
	ErrNotLeader = errors.New("not the leader")
	// ErrOutcomeUnknown: the command may or may not take effect later. Read the state, or
	// propose again: its generation keeps it from happening twice.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrClosed: this node has left the cluster.
	ErrClosed = errors.New("cluster is closed")
)

// enqueueTimeout bounds the wait for a leader that is too busy to take a command in.
const enqueueTimeout = time.Second

// NotLeaderError says who leads; both fields are empty while nobody does.
type NotLeaderError struct {
	Name string // the leader's node
	Addr string // its management address, without port
}

// Error says whom to ask.
func (e *NotLeaderError) Error() string {
	if e.Name == "" {
		return "not the leader, and none is known: an election is under way, or most managers are out of reach"
	}
	return fmt.Sprintf("not the leader; ask %s at %s", e.Name, e.Addr)
}

// Is matches ErrNotLeader.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

func (c *Cluster) notLeader() error {
	name, addr := c.Leader()
	if name == c.cfg.Node { // just deposed, or just elected: nobody to send people to
		name, addr = "", ""
	}
	return &NotLeaderError{Name: name, Addr: addr}
}

// Propose has the cluster agree on cmd and returns once it has taken effect on this node,
// the leader. A zero cmd.Time becomes now. Errors: *NotLeaderError, those of core.Apply
// (core.Refused: final), ErrOutcomeUnknown, also when ctx ends first.
func (c *Cluster) Propose(ctx context.Context, cmd core.Command) error {
	if !c.IsLeader() {
		return c.notLeader()
	}
	if cmd.Time.IsZero() {
		cmd.Time = time.Now().UTC()
	}
	data, err := json.Marshal(cmd)
	if err != nil {
		return fmt.Errorf("cluster: %s: %w", cmd.Kind, err)
	}
	done := make(chan error, 1)
	settle := c.withhold(cmd)
	propose := func() {
		err := c.apply(data)
		settle(err)
		done <- err
	}
	if !c.spawn(propose) {
		return ErrClosed
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("propose %s %s: %w", cmd.Kind, cmd.Domain, err)
	}
	return nil
}

func (c *Cluster) apply(data []byte) error {
	f := c.raft.Apply(data, enqueueTimeout)
	if err := c.outcome(c.answer(f)); err != nil {
		return err
	}
	pulse(c.nudges)
	err, _ := f.Response().(error)
	return err
}

// outcome is what an error of Raft says about what became of a request.
func (c *Cluster) outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return c.notLeader()
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// nudge sends an empty entry behind what was committed. Followers learn of a commit with
// the next entry, or only after the commit timeout; the empty entry carries it at once.
func (c *Cluster) nudge() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.nudges:
			_ = c.answer(c.raft.Barrier(enqueueTimeout))
		}
	}
}
