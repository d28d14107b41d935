package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

// ErrChanging: the managers are changed by one at a time, and another change is under way.
var ErrChanging = errors.New("another change of the managers is under way")

// AddManager gives a registered node a vote, and returns once that has taken effect on this
// node, the leader. Whether it is wise is for the caller to know. Errors: those of Propose,
// ErrChanging.
func (c *Cluster) AddManager(ctx context.Context, name, cause string) error {
	return c.change(ctx, core.ManagerAdded, name, cause, func(s *core.State) raft.Future {
		return c.raft.AddVoter(raft.ServerID(name), c.cfg.raftAddress(s.Nodes[name].Addr), 0, enqueueTimeout)
	})
}

// RemoveManager takes a node's vote away; it follows the log as before. It is not for the
// leader itself, see HandOver. Errors: those of AddManager.
func (c *Cluster) RemoveManager(ctx context.Context, name, cause string) error {
	return c.change(ctx, core.ManagerRemoved, name, cause, func(*core.State) raft.Future {
		return c.raft.DemoteVoter(raft.ServerID(name), 0, enqueueTimeout)
	})
}

// HandOver has another manager lead. It returns once this node leads no more.
func (c *Cluster) HandOver(ctx context.Context, to string) error {
	addr := c.machine.state.Load().Managers[to]
	err := c.await(ctx, func() error {
		return c.outcome(c.answer(c.raft.LeadershipTransferToServer(raft.ServerID(to), c.cfg.raftAddress(addr))))
	})
	if err != nil {
		return fmt.Errorf("hand over to %s: %w", to, err)
	}
	return nil
}

// change is one change of who votes. Before it begins all changes before it are decided and
// applied here (package lease, R5); an event tells of it. What begin returns nil for is none.
func (c *Cluster) change(ctx context.Context, kind core.Kind, name, cause string, begin func(*core.State) raft.Future) error {
	if !c.IsLeader() {
		return c.notLeader()
	}
	if !c.changing.CompareAndSwap(false, true) {
		return ErrChanging
	}
	changed := make(chan bool, 1)
	err := c.await(ctx, func() error {
		defer c.changing.Store(false)
		if err := c.answer(c.raft.Barrier(enqueueTimeout)); err != nil {
			return c.outcome(err)
		}
		f := begin(c.machine.state.Load())
		if changed <- f != nil; f == nil {
			return nil
		}
		return c.outcome(c.answer(f))
	})
	switch {
	case errors.Is(err, ErrClosed):
		c.changing.Store(false)
		return err
	case err != nil:
		return fmt.Errorf("%s %s: %w", kind, name, err)
	case !<-changed:
		return nil
	}
	if err := c.Propose(ctx, core.Command{Kind: kind, Node: &core.Node{Name: name}, Cause: cause}); err != nil {
		c.log.Warn("a change of the managers leaves no event", "change", kind, "node", name, "err", err)
	}
	return nil
}

// await runs f, which may take longer than ctx, on a goroutine that Close waits for.
func (c *Cluster) await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	if !c.spawn(func() { done <- f() }) {
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// StoreConfiguration is raft.ConfigurationStore's: what Raft has agreed on about itself is
// part of the state, in the order of the log.
func (m *machine) StoreConfiguration(index uint64, conf raft.Configuration) {
	next := *m.state.Load()
	core.Manage(&next, index, voters(conf))
	m.publish(&next)
}

// voters are the managers of a configuration, with their addresses, without port.
func voters(conf raft.Configuration) map[string]string {
	out := map[string]string{}
	for _, s := range conf.Servers {
		if s.Suffrage == raft.Voter {
			out[string(s.ID)] = hostOf(s.Address)
		}
	}
	return out
}

func hostOf(at raft.ServerAddress) string {
	host, _, err := net.SplitHostPort(string(at))
	if err != nil {
		return string(at)
	}
	return host
}

// Known are the nodes that this one has heard of, by name, with their addresses: those of
// Raft's configuration, which its disk remembers, and the managers it was told of. Whoever
// of them answers knows where the cluster is.
func (c *Cluster) Known() map[string]string {
	out := maps.Clone(c.cfg.Managers)
	for _, s := range c.raft.GetConfiguration().Configuration().Servers {
		out[string(s.ID)] = hostOf(s.Address)
	}
	delete(out, c.cfg.Node)
	return out
}
