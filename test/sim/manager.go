package sim

import (
	"time"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/detector/lease"
	"github.com/hamgr/hamgr/hamgr/core"
)

// lead is a manager's part as a leader: it mirrors hamgr/cluster lead.go and voter.go.
type lead struct {
	p       *process
	term    uint64 // of the leadership that what follows is about
	ready   bool
	barrier int // the no-op of this term

	changing bool   // a change of the managers is under way
	managed  uint64 // of the managers with which it leads
	since    time.Time
	pending  [maxHosts]int // failovers from each host, of unknown outcome

	open   int       // proposals of this round that are not settled
	until  time.Time // when the round ends in any case
	token  uint32    // of the round's timer
	soon   bool      // a round is due at once
	paused [maxVMs]time.Time
}

// voter is voter.go's Voter, as an echo without the part that was heard.
func (l *lead) voter() lease.Echo {
	r := &l.p.raft
	v := lease.Echo{Term: l.p.disk.term}
	if l.ready && l.term == v.Term && r.role == leading {
		v.Grant, v.Index = true, r.state.s.LeaseIndex()
		if l.p.w.mutant == GrantsOfFormerManagers {
			v.Index = r.state.s.Moved
		}
	}
	return v
}

// complete is what a heartbeat to a host says about its lease (detector.go).
func (l *lead) complete(host int, e lease.Echo) lease.Echo {
	if !l.p.raft.state.managers.has(l.p.id) && l.p.w.mutant != FormerManagers {
		return e
	}
	v := l.voter()
	e.Term = v.Term
	if v.Grant && (l.pending[host] == 0 || l.p.w.mutant == GrantsDuringTakeover) {
		e.Grant, e.Index = true, v.Index
	}
	return e
}

// begin notes a leadership; it is ready once its no-op is applied, and with it all that
// earlier leaders had committed.
func (l *lead) begin() {
	if managed := l.p.raft.state.s.Managed; managed != l.managed {
		l.managed, l.since = managed, l.p.clock()
	}
	if l.term != l.p.disk.term {
		l.term, l.ready, l.since = l.p.disk.term, false, l.p.clock()
		l.barrier = len(l.p.disk.log)
		l.pending, l.open, l.changing = [maxHosts]int{}, 0, false
	}
	l.ready = l.ready || l.p.raft.state.index >= l.barrier
}

// poke has a round happen at once: something changed.
func (l *lead) poke() {
	if l.soon || l.p.raft.role != leading {
		return
	}
	l.soon = true
	l.token++
	l.p.soon(roundTimer, l.token, nil)
}

func (l *lead) round(token uint32) {
	if token != l.token {
		return
	}
	l.soon = false
	if l.p.raft.role != leading {
		return
	}
	l.token++
	l.p.timer(decideEvery, roundTimer, l.token, nil)
	now := l.p.clock()
	if l.open > 0 && now.Before(l.until) {
		return
	}
	l.begin()
	if l.p.table.Isolated() {
		return
	}
	l.open, l.until = 0, now.Add(tryTimeout)
	failovers, others := 4, 16 // lead.go: failoversAtOnce, othersAtOnce
	for _, c := range core.Decide(l.p.raft.state.s, l.view(now)) {
		if now.Before(l.paused[vmOf(c.Domain)]) {
			continue
		}
		budget := &others
		if c.Kind == core.FailOver {
			budget = &failovers
		}
		if *budget--; *budget >= 0 {
			l.propose(c)
		}
	}
}

func (l *lead) view(now time.Time) core.View {
	t := l.p.table
	v := core.View{
		Now:     l.p.wallClock(),
		Dead:    func(node string) (bool, string) { return t.Suspected(node, l.p.raft.state.voters, now) },
		Silence: func(node string) time.Duration { return t.Silence(node, now) },
		Lapsed:  func(node string) bool { return l.lapsed(node, now) },
		Alive:   []string{l.p.name},
	}
	status := t.Status()
	v.Gone = func(node string) bool {
		if node == l.p.name {
			return !l.p.caughtUp
		}
		n, seen := l.p.raft.state.s.Nodes[node], status[node]
		return seen.Refused || seen.State == judge.Alive && seen.Started != 0 && seen.Started != n.Started
	}
	for name, s := range status {
		if s.State == judge.Alive && s.Started != 0 {
			v.Alive = append(v.Alive, name)
		}
	}
	return v
}

// lapsed is voter.go's: this node has led for W and not heard of the other for W.
func (l *lead) lapsed(node string, now time.Time) bool {
	if l.p.w.mutant == TakeoverWithoutWait {
		return true
	}
	led := l.ready && l.term == l.p.disk.term && l.managed == l.p.raft.state.s.Managed && (now.Sub(l.since) >= suspectAfter || l.p.w.mutant == TakeoverWhenElected)
	return led && l.p.table.Unheard(node, now) >= suspectAfter
}

// propose is one decision of a round.
func (l *lead) propose(c core.Command) {
	p := l.p.raft.state.p[vmOf(c.Domain)]
	if c.Silenced && !l.lapsed(p.Primary, l.p.clock()) {
		return
	}
	l.open++
	term := l.term
	l.submit(c, func(o outcome) {
		if term != l.term {
			return
		}
		l.open--
		if o == refused {
			l.paused[vmOf(c.Domain)] = l.p.clock().Add(refusedPause)
		}
	})
}

// submit is Propose on the leader: it withholds leases for as long as the outcome of a
// failover is unknown.
func (l *lead) submit(c core.Command, done func(outcome)) {
	if c.Kind == core.ManagerAdded || c.Kind == core.ManagerRemoved {
		l.changeManagers(c, done)
		return
	}
	l.begin()
	if c.Time.IsZero() {
		c.Time = l.p.wallClock()
	}
	from := -1
	if p := l.p.raft.state.p[max(0, vmOf(c.Domain))]; (c.Kind == core.FailOver || c.Kind == core.Restart) && p != nil {
		from = hostOf(p.Primary)
		l.pending[from]++
	}
	term := l.term
	l.p.raft.submit(&order{Command: c}, func(o outcome) {
		if from >= 0 && term == l.term && o != unknown {
			l.pending[from]--
		}
		done(o)
	})
}
