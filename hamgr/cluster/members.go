package cluster

import (
	"time"

	"github.com/hashicorp/raft"
)

// members keeps Raft's list of servers in line with the registered nodes and where they are,
// while this node leads; who of them votes is none of its business. One that could not be added is tried again a second later.
func (c *Cluster) members() {
	changed, stop := c.machine.watch()
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		if c.IsLeader() {
			c.addMissing()
		}
	}
}

func (c *Cluster) addMissing() {
	f := c.raft.GetConfiguration()
	if f.Error() != nil {
		return
	}
	at := map[raft.ServerID]raft.ServerAddress{}
	for _, s := range f.Configuration().Servers {
		at[s.ID] = s.Address
	}
	for name, n := range c.machine.state.Load().Nodes {
		want := c.cfg.raftAddress(n.Addr)
		if at[raft.ServerID(name)] == want {
			continue
		}
		if err := c.answer(c.raft.AddNonvoter(raft.ServerID(name), want, 0, enqueueTimeout)); err != nil {
			c.log.Warn("a registered node could not be added as a follower, will try again", "node", name, "err", err)
		}
	}
}
