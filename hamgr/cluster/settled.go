package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Settled is the state with all that was agreed on before the call, on the leader. Errors:
// *NotLeaderError, ErrClosed, ErrNotSettled.
func (c *Cluster) Settled(ctx context.Context) (core.State, error) {
	if !c.IsLeader() {
		return core.State{}, c.notLeader()
	}
	done := make(chan error, 1)
	if !c.spawn(func() { done <- c.answer(c.raft.Barrier(enqueueTimeout)) }) {
		return core.State{}, ErrClosed
	}
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case err == nil:
		return *c.machine.state.Load(), nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost):
		return core.State{}, c.notLeader()
	}
	return core.State{}, fmt.Errorf("%w: %w", ErrNotSettled, err)
}

// ErrNotSettled: the managers have not confirmed in time that the state is the newest.
var ErrNotSettled = errors.New("the managers do not answer")
