package cluster

import (
	"slices"
	"time"

	"github.com/hamgr/hamgr/detector"
)

// hurryPause is how much later than the others the manager hurries that is to win.
const hurryPause = 30 * time.Millisecond

// hurry shortens the time without a leader. Raft waits for its heartbeat timeout, which
// has to be long enough for a slow disk or a busy host; the managers know better once more
// than half of them miss the leader. Raft gives no vote to a candidate while it believes
// in a leader, so all give theirs up, the one to win a moment after the others.
type hurry struct {
	since time.Time // the leader is missed since; zero: it is not
	done  bool
}

// look is for each round in which this node does not lead.
func (h *hurry) look(c *Cluster, sight Sight, now time.Time) {
	leader, _ := c.Leader()
	voters := c.machine.state.Load().Voters()
	missed := false
	if leader != "" && leader != c.cfg.Node && slices.Contains(voters, c.cfg.Node) && !sight.SelfIsolated() {
		missed, _ = sight.Suspected(leader, voters)
	}
	switch {
	case !missed && (h.done || !h.since.IsZero()) && leader != "":
		h.end(c)
	case missed && h.since.IsZero():
		h.since = now
	}
	if h.since.IsZero() || h.done || first(c.cfg.Node, leader, voters, sight) && now.Sub(h.since) < hurryPause {
		return
	}
	h.done = true
	c.setHeartbeat(c.cfg.LeaderLease) // Raft allows no less
}

func (h *hurry) end(c *Cluster) {
	if h.done {
		c.setHeartbeat(c.cfg.Heartbeat)
	}
	*h = hurry{}
}

// first says that this node is the first by name of the managers that live without the
// leader.
func first(node, leader string, voters []string, sight Sight) bool {
	status := sight.Status()
	for _, v := range voters {
		if v == node {
			return true
		}
		if v != leader && status[v].State == detector.Alive {
			return false
		}
	}
	return false
}

func (c *Cluster) setHeartbeat(timeout time.Duration) {
	rc := c.raft.ReloadableConfig()
	rc.HeartbeatTimeout = timeout
	if err := c.raft.ReloadConfig(rc); err != nil {
		c.log.Warn("raft's heartbeat timeout could not be changed", "err", err)
	}
}
