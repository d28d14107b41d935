package cluster

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/detector/lease"
	"github.com/hamgr/hamgr/hamgr/core"
)

// voter is this manager's part in leases (package lease): when it leads, whom it grants
// them, and from whom it may take guests that no held output fences.
type voter struct {
	mu       sync.Mutex
	term     uint64 // of the leadership that what follows is about
	ready    bool   // all that earlier leaders had committed is applied here
	managed  uint64 // core.State.Managed: of the managers with which it leads
	since    time.Time
	pending  map[string]int // nodes with failovers proposed, of unknown outcome
	withheld map[string]bool
}

// Voter is for the detector: what this node may say about leases at this moment.
func (c *Cluster) Voter() detector.Voter {
	if !c.claims(c.machine.state.Load()) {
		return detector.Voter{}
	}
	v := &c.voter
	v.mu.Lock()
	defer v.mu.Unlock()
	out := detector.Voter{Voter: lease.Voter{Term: c.raft.CurrentTerm()}}
	if v.ready && v.term == out.Term && c.IsLeader() {
		out.Leads, out.Index, out.Withheld = true, c.machine.state.Load().LeaseIndex(), v.withheld
	}
	return out
}

// claims says whether this node may say which term it is in, for a lease: one that was
// started without its log knows only once it has caught up that it is a manager still, or
// again (package lease, R2).
func (c *Cluster) claims(s *core.State) bool {
	_, manager := s.Managers[c.cfg.Node]
	return manager && (!c.blank || c.caughtUp(s))
}

// lead notes that this node leads, and with which managers; it grants once it has applied
// what earlier leaders had committed (package lease, case t > u of the proof).
func (c *Cluster) lead(now time.Time) {
	v := &c.voter
	term := c.raft.CurrentTerm()
	v.mu.Lock()
	defer v.mu.Unlock()
	managed := c.machine.state.Load().Managed
	if managed != v.managed {
		v.managed, v.since = managed, now
	}
	if !c.IsLeader() || v.term == term {
		return
	}
	v.term, v.ready, v.since = term, false, now
	v.pending, v.withheld = map[string]int{}, map[string]bool{}
	c.spawn(func() {
		err := error(raft.ErrEnqueueTimeout)
		for errors.Is(err, raft.ErrEnqueueTimeout) { // ends with the leadership, at the latest
			err = c.answer(c.raft.Barrier(enqueueTimeout))
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.ready = v.ready || err == nil && v.term == term
	})
}

// lapsed says that a node has no lease nor will get one while its failover is pending: this
// node has led for wait, with the managers as they are, and has not heard from it for as long.
func (c *Cluster) lapsed(unheard, wait time.Duration, now time.Time) bool {
	v := &c.voter
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ready && v.term == c.raft.CurrentTerm() && v.managed == c.machine.state.Load().Managed && now.Sub(v.since) >= wait && unheard >= wait
}

// withhold is to be called before a failover from a node is proposed, and what it returns
// when its outcome is known; until then the node gets no lease from this leadership. It is
// known, too, of one that Raft did not take in, as while another manager is to lead.
func (c *Cluster) withhold(cmd core.Command) (settle func(error)) {
	p, ok := c.machine.state.Load().Protections[cmd.Domain]
	if !ok || cmd.Kind != core.FailOver && cmd.Kind != core.Restart {
		return func(error) {}
	}
	v := &c.voter
	v.mu.Lock()
	defer v.mu.Unlock()
	v.countLocked(p.Primary, 1)
	term := v.term
	return func(err error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if known := err == nil || core.Refused(err) || errors.Is(err, ErrNotLeader); known && v.term == term {
			v.countLocked(p.Primary, -1)
		}
	}
}

// countLocked makes a new map: the old one may be with a reader.
func (v *voter) countLocked(node string, n int) {
	if v.pending == nil {
		v.pending = map[string]int{}
	}
	v.pending[node] += n
	v.withheld = map[string]bool{}
	for name, pending := range v.pending {
		if pending > 0 {
			v.withheld[name] = true
		}
	}
}
