package sim

import (
	"time"

	"github.com/hamgr/hamgr/detector/judge"
)

// hurry mirrors hamgr/cluster hurry.go: managers of whom more than half miss the leader
// wait for it no longer.
type hurry struct {
	since time.Time
	done  bool
}

func (h *hurry) look(p *process, now time.Time) {
	r := &p.raft
	if !r.state.managers.has(p.id) {
		return
	}
	known, missed := r.leader >= 0, false
	if known && r.leader != p.id && !p.table.Isolated() {
		missed, _ = p.table.Suspected(names[r.leader], r.state.voters, now)
	}
	switch {
	case !missed && (h.done || !h.since.IsZero()) && known:
		*h = hurry{}
		r.patience(raftTimeout)
	case missed && h.since.IsZero():
		h.since = now
	}
	if h.since.IsZero() || h.done || p.first(now) && now.Sub(h.since) < hurryPause {
		return
	}
	h.done = true
	r.patience(raftLease)
}

// first says that this is the first by name of the managers that live without the leader.
func (p *process) first(now time.Time) bool {
	status := p.table.Status()
	for _, v := range p.raft.state.voters {
		if v == p.name {
			return true
		}
		if hostOf(v) != p.raft.leader && status[v].State == judge.Alive {
			return false
		}
	}
	return false
}
