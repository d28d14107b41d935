package sim

import (
	"slices"
	"time"
)

// disk is what Raft keeps over a crash.
type disk struct {
	term uint64
	vote int // -1: none
	log  []entry
}

func (d *disk) last() (index int, term uint64) { return len(d.log), d.termAt(len(d.log)) }

func (d *disk) termAt(index int) uint64 {
	if index == 0 {
		return 0
	}
	return d.log[index-1].term
}

type role uint8

const (
	follower role = iota
	asking        // whether an election would be won (pre-vote)
	candidate
	leading
)

// raft is one host's part in the agreement. Hosts that are not managers follow only.
type raft struct {
	p        *process
	role     role
	leader   int // -1: none known
	heard    time.Duration
	deadline time.Duration
	timeout  time.Duration // without a word of the leader; shorter while in a hurry
	token    uint32        // of the timer that counts
	votes    hostSet
	voters   hostSet       // of the newest managers in the log
	handing  time.Duration // until when the leader takes nothing, as another is to lead
	commit   int
	state    *state // applied
	next     [maxHosts]int
	match    [maxHosts]int
	contact  [maxHosts]time.Duration // last answer, while leading
	waiting  []waiter
}

// waiter wants to know what became of a proposal.
type waiter struct {
	index int
	done  func(outcome)
}

// outcome of a proposal.
type outcome uint8

const (
	taken outcome = iota
	refused
	unknown
	notLeader
)

func (p *process) startRaft() {
	r := &p.raft
	*r = raft{p: p, leader: -1, timeout: raftTimeout, state: p.w.ledger.chain[0]}
	p.lead = lead{p: p}
	r.configure()
	r.rest()
	if p.inc == 1 && p.id == int(p.w.schedule.Seed%uint64(p.w.schedule.Managers)) {
		r.deadline = p.w.now + raftBeat // the first election is not what is tested
	}
	r.arm(r.deadline - p.w.now)
}

func (r *raft) arm(d time.Duration) {
	r.token++
	r.p.w.after(d, event{kind: raftTimer, to: uint8(r.p.id), inc: r.p.inc, arg: r.token})
}

// rest puts the next election off.
func (r *raft) rest() {
	w := r.p.w
	r.deadline = w.now + r.p.local(w.between(r.timeout, 2*r.timeout))
}

// patience sets the time to wait for the leader; one that has waited as long waits no more.
func (r *raft) patience(d time.Duration) {
	r.timeout = d
	if r.role == follower && r.p.w.now-r.heard >= r.p.local(d) {
		r.deadline = r.p.w.now
		r.arm(0)
	}
}

func (r *raft) quorum() int { return r.voters.count()/2 + 1 }

// handle takes what is Raft's. While the disk stands still, so does Raft, but for the
// goroutines that keep a leader's followers at rest.
func (r *raft) handle(e *event) {
	p, w := r.p, r.p.w
	if w.now < p.stalled {
		if e.kind == rpcGot {
			r.handleStalled(e.msg.(*rpc))
		} else if r.role == leading {
			r.sendAll(true)
		}
		late := *e
		late.at, late.inc = p.stalled, p.inc
		if e.kind == raftTimer {
			late.at = w.now + raftBeat
		}
		w.q.push(late)
		return
	}
	if e.kind == rpcGot {
		r.got(e.msg.(*rpc))
		return
	}
	if e.arg != r.token {
		return
	}
	switch {
	case r.role == leading:
		r.keepLeading()
	case w.now >= r.deadline:
		r.ask()
		r.arm(r.deadline - w.now)
	default:
		r.arm(r.deadline - w.now)
	}
}

func (r *raft) handleStalled(m *rpc) {
	switch {
	case m.kind == appendTo && m.term >= r.p.disk.term:
		r.heard = r.p.w.now
		r.send(m.from, rpc{kind: appended, ok: true, beat: true})
	case m.kind == appended && r.role == leading:
		r.contact[m.from] = r.p.w.now
	}
}

// keepLeading is the leader's heartbeat: it steps down when it has not heard from a
// majority for the length of its lease.
func (r *raft) keepLeading() {
	w := r.p.w
	with := 0
	for i := range w.hosts {
		if r.voters.has(i) && (i == r.p.id || w.now-r.contact[i] < r.p.local(raftLease)) {
			with++
		}
	}
	if with < r.quorum() {
		r.follow(-1)
		r.arm(r.deadline - w.now)
		return
	}
	r.sendAll(false)
	r.arm(r.p.local(raftBeat))
}

// follow ends a candidacy or a leadership.
func (r *raft) follow(leader int) {
	was := r.role
	r.role, r.leader = follower, leader
	r.rest()
	if was != leading {
		return
	}
	if r.p.w.say != nil {
		r.p.w.tell(r.p.name, "leads no more (term %d)", r.p.disk.term)
	}
	lost := r.waiting
	r.waiting = nil
	for _, x := range lost {
		x.done(unknown)
	}
	r.arm(r.deadline - r.p.w.now)
}

// adopt takes over a newer term.
func (r *raft) adopt(term uint64) {
	if term > r.p.disk.term {
		r.p.disk.term, r.p.disk.vote = term, -1
		r.follow(-1)
	}
}

// ask finds out whether an election would be won, which costs nobody a leader. Who has no
// vote knows no leader for now.
func (r *raft) ask() {
	r.leader = -1
	if !r.voters.has(r.p.id) {
		r.role = follower
		r.rest()
		return
	}
	r.role, r.votes = asking, 1<<r.p.id
	r.rest()
	r.canvass(rpc{kind: preVote, term: r.p.disk.term + 1})
}

// stand is for election; handed: the leader has asked for it.
func (r *raft) stand(handed bool) {
	d := &r.p.disk
	d.term++
	d.vote = r.p.id
	r.role, r.votes = candidate, 1<<r.p.id
	r.rest()
	r.canvass(rpc{kind: vote, term: d.term, handed: handed})
}

func (r *raft) canvass(m rpc) {
	m.index, m.logTerm = r.p.disk.last()
	for i := range r.p.w.hosts {
		if i != r.p.id && r.voters.has(i) {
			r.send(i, m)
		}
	}
	r.count()
}

func (r *raft) count() {
	switch n := (r.votes & r.voters).count(); {
	case n < r.quorum():
	case r.role == asking:
		r.stand(false)
	case r.role == candidate:
		r.win()
	}
}

func (r *raft) win() {
	w := r.p.w
	r.role, r.leader, r.handing = leading, r.p.id, 0
	if w.say != nil {
		w.tell(r.p.name, "leads (term %d)", r.p.disk.term)
	}
	last, _ := r.p.disk.last()
	for i := range r.next {
		r.next[i], r.match[i], r.contact[i] = last+1, 0, w.now
	}
	r.submit(&order{}, func(outcome) {})
	r.arm(r.p.local(raftBeat))
	r.p.lead.poke()
}

// submit puts an order into the log; done hears what became of it.
func (r *raft) submit(o *order, done func(outcome)) {
	d := &r.p.disk
	if r.p.w.now < r.p.stalled {
		r.p.w.q.push(event{at: r.p.stalled, kind: submitTimer, to: uint8(r.p.id), inc: r.p.inc, msg: &deferred{o, done}})
		return
	}
	if r.role != leading || r.p.w.now < r.handing {
		done(notLeader)
		return
	}
	d.log = append(d.log, entry{d.term, o})
	if o.managers != 0 {
		r.voters = o.managers
	}
	r.match[r.p.id] = len(d.log)
	r.waiting = append(r.waiting, waiter{len(d.log), done})
	r.sendAll(false)
	r.advance()
}

// deferred waits for the disk.
type deferred struct {
	order *order
	done  func(outcome)
}

// advance commits what a majority has, if it is of this term.
func (r *raft) advance() {
	var at []int
	for i, m := range r.match {
		if r.voters.has(i) {
			at = append(at, m)
		}
	}
	slices.Sort(at)
	to := at[len(at)-r.quorum()]
	if to > r.commit && r.p.disk.termAt(to) == r.p.disk.term {
		r.commitTo(to)
		r.sendAll(false) // the nudge of propose.go
	}
}

func (r *raft) commitTo(index int) {
	if index <= r.commit {
		return
	}
	r.commit = index
	r.p.w.committed(r.p.name, r.p.disk.log, index)
	for r.state.index < r.commit {
		r.state = r.state.after(r.p.disk.log[r.state.index].order)
		for len(r.waiting) > 0 && r.waiting[0].index <= r.state.index {
			done := r.waiting[0].done
			r.waiting = r.waiting[1:]
			if r.state.err != nil {
				done(refused)
			} else {
				done(taken)
			}
		}
	}
	r.p.changed()
}
