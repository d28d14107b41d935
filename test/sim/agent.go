package sim

import (
	"time"

	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
)

// agent makes its host match the agreed state: it mirrors hamgr/agent agent.go,
// reconcile.go and host.go.
type agent struct {
	p        *process
	jobs     [maxVMs]*job
	backups  [maxVMs]*backup
	restored [maxVMs]bool // and they have no job yet
	accepted []*stream
	token    uint32 // of the newest timer of any job
	runs     bool   // it has begun
	seen     *state // the last state that reconcile went through
	adopted  bool   // it has looked at what an earlier one left
	pending  bool   // a reconcile is due at once
	gated    bool   // the gates' timer runs
}

// start registers the process; the agent begins when its registration has come back.
func (a *agent) start(p *process) {
	a.p = p
	a.adopted = p.inc == 1 // there was no earlier one
	a.seen = p.raft.state
	if p.inc > 1 {
		libvirt := 50 * time.Millisecond
		if p.w.chance(150) { // it takes its time
			libvirt = 2 * time.Second
		}
		p.timer(p.w.between(5*time.Millisecond, libvirt), recoverTimer, 0, nil)
	}
}

// recover frees the guests that an earlier process left in the middle of a checkpoint; that
// takes no leave of anybody, it opens no output. Then the cluster is told.
func (a *agent) recover() {
	for _, c := range a.p.copies {
		if c != nil {
			c.resume()
		}
	}
	a.p.register()
}

// register mirrors hamgr/cluster register.go.
func (p *process) register() {
	p.registering = true
	c := core.Command{Kind: core.RegisterNode, Node: &core.Node{
		Name: p.name, ID: p.name, Addr: p.name, Boot: p.boot, Started: p.incarnation}}
	p.propose(c, func(outcome) {
		p.asked, p.registering = true, false
		p.timer(registerAgain, recoverTimer, 1, nil)
	})
}

// stayRegistered registers again where the cluster takes an earlier process for this one.
func (p *process) stayRegistered() {
	if p.asked && !p.registering && p.raft.state.s.Nodes[p.name].Boot != p.boot {
		p.register()
	}
}

// changed is called after each change of this node's state (cluster Watch).
func (p *process) changed() {
	if !p.caughtUp {
		p.caughtUp = p.raft.state.s.Nodes[p.name].Boot == p.boot
	}
	if p.caughtUp {
		p.stayRegistered()
		if a := &p.agent; !a.runs {
			a.runs = true
			p.timer(reconcileEvery, reconcileTimer, 1, nil)
		}
		p.agent.poke()
	}
	p.lead.poke()
}

// listens: for primaries, once it has seen to what was left here.
func (a *agent) listens() bool { return a.runs && a.adopted }

func (a *agent) poke() {
	if !a.pending {
		a.pending = true
		a.p.soon(reconcileTimer, 0, nil)
	}
	for _, b := range a.backups {
		if b != nil {
			b.wake()
		}
	}
	for _, s := range a.accepted {
		if s.backup != nil && s.backup.stage == greeted {
			s.backup.wake()
		}
	}
}

func (a *agent) handle(e *event) {
	switch e.kind {
	case recoverTimer:
		if e.arg == 1 {
			a.p.stayRegistered()
			return
		}
		a.recover()
	case reconcileTimer:
		if e.arg == 1 {
			a.p.timer(reconcileEvery, reconcileTimer, 1, nil)
		} else {
			a.pending = false
		}
		a.reconcile()
	case gateTimer:
		a.extendLeases()
	case jobTimer:
		if j := a.jobs[e.arg&3]; j != nil {
			j.timer(e.arg >> 2)
		}
	case backupTimer:
		e.msg.(*backup).timer(e.arg)
	case guestGone:
		a.guestGone(int(e.arg))
	case streamRead:
		a.read(e.msg.(*frame))
	}
}

func (a *agent) read(f *frame) {
	s := f.s
	switch {
	case f.kind == hello:
		a.accepted = append(a.accepted, s)
		newBackup(a, f)
	case f.to == 0 && s.session != nil:
		s.session.read(f)
	case f.to == 1 && s.backup != nil:
		s.backup.read(f)
	}
}

func (a *agent) reconcile() {
	st := a.p.raft.state
	a.p.w.checkView(a.p, st)
	adopt := !a.adopted
	a.adopted, a.seen = true, st
	for i := range a.p.w.vms {
		p := st.p[i]
		if j := a.jobs[i]; j != nil && j.over {
			a.jobs[i] = nil
		}
		switch j := a.jobs[i]; {
		case p == nil && j != nil:
			j.update(nil)
		case p == nil && adopt:
			a.clearEnded(i)
		case p == nil:
		case p.Primary == a.p.name:
			a.lead(i, p, adopt)
		case j != nil:
			j.update(p)
		case adopt:
			a.clearFenced(i)
		}
		a.settleRestored(i, p)
		if b := a.backups[i]; b != nil {
			var now core.Protection
			if p != nil {
				now = *p
			}
			if rules.Obsolete(a.p.name, b.brings(), now, p != nil) {
				b.discard()
			}
		}
	}
}

// settleRestored mirrors leased.go.
func (a *agent) settleRestored(i int, p *core.Protection) {
	if !a.restored[i] || p != nil && p.Primary == a.p.name {
		return
	}
	a.restored[i] = false
	if p != nil {
		a.clearFenced(i)
	} else {
		a.clearEnded(i)
	}
}

func (a *agent) lead(i int, p *core.Protection, adopt bool) {
	if b := a.backups[i]; b != nil && rules.TakesOver(a.p.name, *p, b.brings()) {
		b.takeOver(p)
		return
	}
	if j := a.jobs[i]; j != nil {
		j.update(p)
		return
	}
	if p.Phase == core.Lost && !adopt && !a.restored[i] {
		return
	}
	a.restored[i] = false
	a.jobs[i] = newJob(a, i, p, adopt)
}

// clearFenced ends a copy that an earlier process left and that is another node's guest now,
// also when that node has lost it since: nobody may know what it was seen to do there.
func (a *agent) clearFenced(i int) {
	c := a.p.copies[i]
	if c == nil {
		return
	}
	a.p.note("ends a fenced copy of %s", domains[i])
	a.p.w.checkEnds(c)
	c.die()
}

// clearEnded sees to a guest whose protection ended while no hamgr ran here: what stands
// before its network says that it was protected.
func (a *agent) clearEnded(i int) {
	c := a.p.copies[i]
	if c == nil || !c.tap.cut && !c.tap.gate {
		return
	}
	e, known := a.seen.s.Ended[domains[i]]
	switch rules.Gone(a.p.name, 0, e, known) {
	case rules.Release:
		c.clear()
	case rules.Fence:
		a.p.note("ends a stale copy of %s", domains[i])
		a.p.w.checkEnds(c)
		c.die()
	}
}

// guestGone is watchDomains': a session notices by itself, and asks why it ended.
func (a *agent) guestGone(i int) {
	j := a.jobs[i]
	if j == nil || a.p.copies[i] != nil {
		return
	}
	if j.s != nil {
		j.s.end("QEMU is gone")
		return
	}
	if !j.moved {
		j.fresh = true
		j.step()
	}
}

// looks is what libvirt says of a guest.
func (a *agent) looks(i int) rules.Guest {
	c := a.p.copies[i]
	if c != nil && c.hung > 0 && a.p.w.mutant == HungSpared {
		return rules.Crashed
	}
	if c != nil {
		return rules.Running
	}
	return rules.Crashed
}

// gates has the kernel close the gates of this host when its lease ends.
func (a *agent) gates() {
	if !a.gated {
		a.gated = true
		a.p.timer(leaseEvery, gateTimer, 0, nil)
	}
}

func (a *agent) extendLeases() {
	a.gated = false
	until := a.p.host.moment(a.p.leaseEnd())
	for i, j := range a.jobs {
		if j == nil || !j.gate {
			continue
		}
		a.gates()
		c := a.p.copies[i]
		if c == nil {
			c = a.p.late[i]
		}
		switch {
		case c == nil || !c.tap.gate:
		case rules.MayExtend(a.p.name, j.order) && rules.MayKeep(*j.order, j.started):
			c.setGate(until)
		default:
			c.setGate(0)
		}
	}
}

// setGate is the gate's Extend; the time of a lease that never was is long past.
func (c *copy) setGate(until time.Duration) {
	if c.tap.cut {
		return // an abandoned gate stays closed
	}
	c.tap.until = until
	c.tap.stays = c.host.w.mutant == LeaseUnfenced && until > c.host.w.now
	if c.gateOpen() {
		c.letLateGo()
	}
}

func (p *process) note(format string, args ...any) {
	if p.w.say != nil {
		p.w.tell(p.name, format, args...)
	}
}
