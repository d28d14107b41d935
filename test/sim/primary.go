package sim

import (
	"time"

	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
)

// job is the running side of one protection: it mirrors hamgr/agent primary.go and
// output.go. Where that waits, this has busy or a session.
type job struct {
	a       *agent
	vm      int
	order   *core.Protection // nil: the protection is gone
	gen     uint64           // the last under which this node was the primary
	fresh   bool             // the order has changed since it was acted on
	adopt   bool
	busy    bool // telling the cluster, or freeing the guest
	over    bool
	moved   bool   // it was handed over; the new order has not arrived yet
	started uint64 // the generation under which it was started anew
	told    uint64 // with busy: the generation that the cluster is told about
	try     *try
	s       *session
	token   uint32 // of the timer that counts

	buffer, gate, held bool // what this process has set up
}

func newJob(a *agent, vm int, p *core.Protection, adopt bool) *job {
	j := &job{a: a, vm: vm, order: p, fresh: true, adopt: adopt}
	a.jobs[vm] = j
	if adopt { // recoverGuest
		j.busy = true
		j.later(a.p.w.between(5*time.Millisecond, 50*time.Millisecond))
		return j
	}
	j.step()
	return j
}

func (j *job) later(d time.Duration) {
	j.a.token++
	j.token = j.a.token
	j.a.p.timer(d, jobTimer, uint32(j.vm)|j.token<<2, nil)
}

func (j *job) timer(token uint32) {
	switch {
	case token != j.token:
	case j.s != nil:
		j.s.timer()
	case j.busy: // the guest is out of its old session
		if c := j.copy(); c != nil {
			c.resume()
		}
		j.busy = false
		j.step()
	}
}

// copy is the guest here; nil: it does not run.
func (j *job) copy() *copy { return j.a.p.copies[j.vm] }

func (j *job) update(o *core.Protection) {
	if j.over || o == j.order || o != nil && j.order != nil && o.Generation < j.order.Generation {
		return
	}
	j.order, j.fresh, j.moved = o, true, false
	if j.try != nil && (o == nil || o.Generation != j.told) {
		j.try.giveUp()
		j.try, j.busy = nil, false
	}
	if j.s != nil {
		if j.s.stage == handing {
			return
		}
		if o == nil || o.Generation != j.s.gen {
			j.s.end("its generation is over")
		}
		return
	}
	j.step()
}

// step does the next duty, until there is something to wait for.
func (j *job) step() {
	for j.fresh && !j.busy && !j.over && j.s == nil {
		j.fresh = false
		if j.order == nil {
			e, known := j.a.seen.s.Ended[domains[j.vm]]
			j.do(rules.Gone(j.a.p.name, j.gen, e, known))
			j.over = true
			return
		}
		if j.order.Primary == j.a.p.name {
			j.gen = j.order.Generation
		}
		j.do(rules.Primary(j.a.p.name, *j.order, j.adopt, j.a.looks(j.vm)))
	}
}

func (j *job) do(d rules.Duty) {
	switch d {
	case rules.Release:
		j.release()
		j.over = true
	case rules.Fence:
		j.fence()
		j.over = true
	case rules.Tell:
		j.tellEnd("the agent was restarted")
	case rules.Session:
		newSession(j)
	case rules.Open:
		j.adopt = false
		j.enterSolo()
	case rules.Finish:
		o := *j.order
		j.tell(func() core.Command { return rules.AfterRestore(o, j.a.looks(j.vm)) })
	case rules.Start:
		o := *j.order
		if j.a.p.host.moment(j.a.p.leaseEnd()) <= j.a.p.w.now { // anew.go
			j.busy, j.fresh = true, true
			j.later(tryAgain)
			return
		}
		j.tell(func() core.Command { return j.startAnew(o) })
	case rules.Stop:
		j.over = true
	}
}

// startAnew mirrors anew.go.
func (j *job) startAnew(o core.Protection) core.Command {
	c := core.Command{Kind: core.Restored, Domain: o.Domain, Generation: o.Generation}
	p := j.a.p
	here := j.copy()
	if here != nil && !rules.MayKeep(o, j.started) {
		p.note("ends a copy of %s of a former time", o.Domain)
		here.die()
		here = nil
	}
	switch {
	case here != nil:
	case p.full > 0:
		c.Kind, c.Cause, c.Stopped = core.MarkLost, "it did not start on "+o.Primary, true
	default:
		g := p.w.vms[j.vm]
		j.started = o.Generation
		j.abandon()
		p.note("starts %s anew", o.Domain)
		p.w.checkGiven(g, p, o.Generation)
		g.anew(p.host)
		if p.w.leased(o) {
			j.setUpGate(j.copy())
		}
	}
	return c
}

// sessionEnded says to the cluster why no checkpoints flow any more.
func (j *job) sessionEnded(gen uint64, cause string) {
	if j.order == nil || j.order.Generation != gen {
		j.fresh = true
		j.step()
		return
	}
	j.fresh = false
	if j.moved {
		return
	}
	j.tellEnd(cause)
	if j.a.p.w.mutant == SoloWithoutRaft {
		j.enterSolo()
	}
}

func (j *job) tellEnd(cause string) {
	o := *j.order
	j.tell(func() core.Command {
		c := rules.AfterSession(o, j.a.looks(j.vm), cause)
		if c.Silenced || c.Stopped {
			j.a.p.late[j.vm] = nil // silence
		}
		return c
	})
}

// tell blocks the job until the cluster has taken the command or refused it, or has decided
// something else meanwhile.
func (j *job) tell(say func() core.Command) {
	j.busy, j.told = true, j.order.Generation
	j.try = j.a.p.proposeNow(say, func(outcome) {
		j.busy, j.try = false, nil
		j.step()
	})
}

// say tells the cluster from beside the job.
func (j *job) say(c core.Command) { j.a.p.propose(c, func(outcome) {}) }

func (j *job) enterSolo() {
	c := j.copy()
	if c == nil {
		return
	}
	j.a.p.w.checkOpens(j.a.p, c, j.order)
	if j.a.p.w.leased(*j.order) {
		j.openBehindGate(c)
		return
	}
	if j.buffer || j.gate {
		if j.buffer {
			c.open()
			j.held = false
		}
		c.openGate()
		j.gate = false
	} else {
		c.clear()
	}
}

// leased is rules.Leased.
func (w *World) leased(o core.Protection) bool {
	if w.mutant == AnewUnleased {
		o.OnLoss = core.OnLossStop
	}
	return rules.Leased(o)
}

// openBehindGate leaves the lease in force.
func (j *job) openBehindGate(c *copy) {
	if !j.gate {
		j.setUpGate(c)
	}
	if j.held {
		c.open()
	}
	c.tap.hold, c.tap.cut, j.held = false, false, false
	c.setGate(j.a.p.host.moment(j.a.p.leaseEnd()))
}

func (j *job) release() {
	c := j.copy()
	if c == nil {
		return
	}
	c.letLateGo()
	c.open()
	c.clear()
	j.buffer, j.gate, j.held = false, false, false
}

func (j *job) abandon() {
	if c := j.copy(); c != nil && (j.buffer || j.gate) {
		c.abandon()
	}
	j.a.p.late[j.vm] = nil
	j.buffer, j.gate, j.held = false, false, false
}

func (j *job) fence() {
	j.abandon()
	if c := j.copy(); c != nil {
		j.a.p.note("is fenced: ends its copy of %s", domains[j.vm])
		j.a.p.w.checkEnds(c)
		c.die()
	}
}

// setUpGate puts a gate before the network, open for as long as this host's lease lasts.
func (j *job) setUpGate(c *copy) {
	if j.gate {
		return
	}
	j.gate = true
	c.tap.gate, c.tap.alone, c.tap.late = true, false, nil
	c.setGate(j.a.p.host.moment(j.a.p.leaseEnd()))
	j.a.gates()
}
