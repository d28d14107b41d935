package lease

import (
	"slices"
	"time"
)

// Length is the length of a lease for a leader that waits for wait: 4/5 of it, so that
// clocks may differ in speed by a quarter.
func Length(wait time.Duration) time.Duration { return wait * 4 / 5 }

// Echo is what a manager's heartbeat to a host says beside that it lives.
type Echo struct {
	Incarnation uint64 // of the host's process, that it has heard last
	Sequence    uint64 // of that process's newest heartbeat, 0: none
	Term        uint64 // the manager's Raft term, read after the above; 0: not a manager
	Grant       bool   // it leads in that term, and lets the host have its lease
	Index       uint64 // with Grant: of the newest change of any guest's owner, or of the managers, it knows of
}

// kept is how many of its own heartbeats a host remembers: more than go out in a lease.
const kept = 256

// Holder is a host's side. It is not safe for concurrent use.
type Holder struct {
	self        string
	incarnation uint64
	sequence    uint64
	sent        [kept]time.Time
	heard       map[string]ack
	grant       ack
	index       uint64
}

// ack is when the host had sent what a manager heard of it last, in that term.
type ack struct {
	term uint64
	sent time.Time
}

// NewHolder makes a host's side for one process of hamgr, told apart by its incarnation.
func NewHolder(self string, incarnation uint64) *Holder {
	return &Holder{self: self, incarnation: incarnation, heard: map[string]ack{}}
}

// Sending notes a heartbeat that is about to be sent. Sequences grow.
func (h *Holder) Sending(sequence uint64, now time.Time) {
	h.sequence = sequence
	h.sent[sequence%kept] = now
}

// Heard takes in what a manager's heartbeat said. Late and doubled ones do no harm.
func (h *Holder) Heard(from string, e Echo) {
	known := e.Sequence > 0 && e.Sequence <= h.sequence && h.sequence-e.Sequence < kept
	if e.Incarnation != h.incarnation || e.Term == 0 || !known {
		return
	}
	a := ack{e.Term, h.sent[e.Sequence%kept]}
	if newer(a, h.heard[from]) {
		h.heard[from] = a
	}
	if e.Grant && newer(a, h.grant) {
		h.grant = a
	}
	if e.Grant && e.Term == h.grant.term {
		h.index = max(h.index, e.Index)
	}
}

func newer(a, than ack) bool {
	return a.term > than.term || a.term == than.term && a.sent.After(than.sent)
}

// Voter is the host's own part if it is a manager. It must be read before the time that
// Until is told.
type Voter struct {
	Term  uint64 // 0: it is no manager
	Leads bool   // in that term, and may grant: to itself, at all times
}

// Until is when the lease ends; zero or past: there is none. managers are all voters as of
// applied, the index up to which the host knows what was decided.
func (h *Holder) Until(managers []string, own Voter, applied uint64, length time.Duration, now time.Time) time.Time {
	grant := h.grant
	if own.Leads && own.Term >= grant.term {
		grant = ack{own.Term, now}
	}
	if grant.term == 0 || applied < h.index {
		return time.Time{}
	}
	var times []time.Time
	for _, m := range managers {
		switch a := h.heard[m]; {
		case m == h.self && own.Term == grant.term:
			times = append(times, now)
		case m != h.self && a.term == grant.term:
			times = append(times, a.sent)
		}
	}
	majority := len(managers)/2 + 1
	if len(times) < majority {
		return time.Time{}
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	at := times[majority-1]
	if grant.sent.Before(at) {
		at = grant.sent
	}
	return at.Add(length)
}
