package sim

import "github.com/hamgr/hamgr/hamgr/core"

// try is a command on its way to the cluster, from a process that repeats it until it is
// taken, or refused for good (agent.go propose, cluster Register).
type try struct {
	p       *process
	say     func() core.Command // asked before each attempt
	c       core.Command        // what it was the last time
	attempt uint32
	patient bool // repeats until it is over; else once
	done    func(outcome)
}

// request is one attempt, as it travels to a manager and back (api forward.go).
type request struct {
	try     *try
	c       core.Command
	attempt uint32
	outcome outcome
}

func (p *process) propose(c core.Command, done func(outcome)) *try {
	return p.proposeNow(func() core.Command { return c }, done)
}

// proposeNow is propose of what say says at each attempt.
func (p *process) proposeNow(say func() core.Command, done func(outcome)) *try {
	t := &try{p: p, say: say, patient: true, done: done}
	p.attempt(t)
	return t
}

// ask is a single attempt.
func (p *process) ask(c core.Command) {
	p.attempt(&try{p: p, say: func() core.Command { return c }, done: func(outcome) {}})
}

// giveUp ends a try; what is under way may have its effect still.
func (t *try) giveUp() { t.attempt += 1 << 16 }

func (p *process) attempt(t *try) {
	t.attempt++
	t.c = t.say()
	attempt := t.attempt
	p.checkProposal(t.c)
	p.timer(tryTimeout, tryTimer, attempt, t)
	to := p.raft.leader
	if to == p.id && p.raft.role == leading {
		p.lead.submit(t.c, func(o outcome) { p.concluded(t, attempt, o) })
		return
	}
	if to < 0 || to == p.id {
		to = p.w.rng.IntN(p.w.schedule.Hosts)
	}
	if to != p.id {
		p.w.send(p.id, to, requestGot, &request{try: t, c: t.c, attempt: attempt})
	}
}

func (p *process) requestGot(q *request) {
	from := q.try.p
	a := &request{try: q.try, attempt: q.attempt}
	answer := func(o outcome) {
		a.outcome = o
		p.w.send(p.id, from.id, answerGot, a)
	}
	if p.raft.role != leading {
		answer(notLeader)
		return
	}
	p.lead.submit(q.c, answer)
}

func (p *process) answerGot(a *request) {
	if a.try.p == p {
		p.concluded(a.try, a.attempt, a.outcome)
	}
}

// concluded is the end of an attempt; what is not final is tried again a little later.
func (p *process) concluded(t *try, attempt uint32, o outcome) {
	if attempt != t.attempt {
		return
	}
	t.attempt++
	if o == taken || o == refused || !t.patient {
		t.giveUp()
		t.done(o)
		return
	}
	p.timer(tryAgain, tryTimer, t.attempt, t)
}

// tryTimer is the end of an attempt's time, or of the wait before the next.
func (p *process) tryTimer(t *try, attempt uint32) {
	if attempt != t.attempt || !t.patient {
		return
	}
	p.attempt(t)
}
