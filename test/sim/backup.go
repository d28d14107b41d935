package sim

import (
	"time"

	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
)

// backup is the waiting side of one protection, from a primary's hello on: it mirrors
// hamgr/agent backup.go, and storage.
type backup struct {
	a       *agent
	vm      int
	gen     uint64
	as      uint64 // the generation it is restored under
	index   int    // of the primary's state
	stream  *stream
	stage   backupStage
	token   uint32
	settled bool // taken over or discarded: once

	replica replica
	began   time.Duration
}

type backupStage uint8

const (
	greeted   backupStage = iota // waits until its state is as new as the primary's
	preparing                    // its standby
	receiving
	restoring
	announcing // the guest runs, the cluster does not know yet
	ended
)

// replica is a whole checkpoint, and what has arrived of the next.
type replica struct {
	epoch  uint64 // 0: none is committed
	branch int
	count  uint64
	mem    [pages]uint64
	frozen bool

	staged [pages]uint64
	has    [pages]bool

	late *frame // mutant AckBeforeApply: acknowledged, not applied
}

func newBackup(a *agent, f *frame) {
	b := &backup{a: a, vm: f.s.session.j.vm, gen: f.gen, index: f.index, stream: f.s, began: a.p.w.now}
	f.s.backup = b
	b.later(catchUpTimeout)
	b.wake()
}

func (b *backup) later(d time.Duration) {
	b.token++
	b.a.p.timer(d, backupTimer, b.token, b)
}

func (b *backup) brings() rules.Replica {
	return rules.Replica{Domain: domains[b.vm], UUID: domains[b.vm], Generation: b.gen}
}

// wake goes on once this node's state is as new as the primary's.
func (b *backup) wake() {
	st := b.a.p.raft.state
	if b.stage != greeted || st.index < b.index {
		return
	}
	switch rules.Admit(b.a.p.name, st.s, b.brings()) {
	case rules.NotMine:
		b.refuse("not the backup")
		return
	case rules.Stale:
		b.refuse("stale generation")
		return
	}
	if b.a.p.full > 0 {
		b.refuse("no memory")
		return
	}
	if old := b.a.backups[b.vm]; old != nil && old.gen < b.gen {
		old.discard()
	}
	b.stage = preparing
	b.later(b.a.p.w.between(5*time.Millisecond, 60*time.Millisecond))
}

func (b *backup) refuse(why string) {
	b.stage = ended
	b.stream.write(frame{to: 0, kind: refuse, why: why})
	b.stream.close(1)
}

func (b *backup) timer(token uint32) {
	if token != b.token {
		return
	}
	switch b.stage {
	case greeted:
		b.refuse("lost touch with the managers")
	case preparing:
		b.prepared()
	case receiving:
		b.applyLate()
	case restoring:
		b.restored()
	case announcing:
		b.finish(core.Command{Kind: core.Restored})
	}
}

func (b *backup) prepared() {
	switch {
	case b.a.p.copies[b.vm] != nil:
		b.refuse("a domain of that name runs here")
	case b.a.backups[b.vm] != nil:
		b.discard()
	default:
		b.a.backups[b.vm] = b
		b.stage = receiving
		b.stream.write(frame{to: 0, kind: accept})
	}
}

func (b *backup) read(f *frame) {
	if b.stage != receiving && (b.stage < receiving || b.a.p.w.mutant != StaleCommits) {
		if (f.kind == shut || f.kind == unheard) && b.stage < receiving {
			b.discard()
		}
		return
	}
	r := &b.replica
	switch f.kind {
	case precopy:
		r.mem = f.mem
	case part, whole:
		b.take(f)
	case shut, unheard: // the replica stays until the cluster has decided
	}
}

// take stages a piece of a checkpoint; with the last piece it is applied whole, and
// acknowledged.
func (b *backup) take(f *frame) {
	r, w := &b.replica, b.a.p.w
	if r.frozen && w.mutant != StaleCommits {
		return
	}
	for i := range pages {
		if f.has[i] {
			r.staged[i], r.has[i] = f.mem[i], true
			if w.mutant == ApplyUnstaged {
				r.mem[i] = f.mem[i]
			}
		}
	}
	if f.kind != whole {
		return
	}
	if w.mutant == AckBeforeApply {
		b.applyLate()
		r.late = f
		b.later(w.between(0, 100*time.Millisecond))
	} else {
		b.apply(f)
	}
	b.stream.write(frame{to: 0, kind: commit, epoch: f.epoch})
}

func (b *backup) apply(f *frame) {
	r := &b.replica
	for i := range pages {
		if r.has[i] {
			r.mem[i], r.has[i] = r.staged[i], false
		}
	}
	r.epoch, r.branch, r.count = f.epoch, f.branch, f.count
	at := &b.a.p.w.vms[b.vm].branches[f.branch]
	at.committed = max(at.committed, f.count)
	b.a.p.w.checkWhole(b)
}

func (b *backup) applyLate() {
	if b.replica.late != nil && !b.replica.frozen {
		b.apply(b.replica.late)
		b.replica.late = nil
	}
}

// discard ends the standby and frees the replica.
func (b *backup) discard() {
	if b.settled {
		return
	}
	b.settled = true
	b.drop()
	b.stream.close(1)
	b.a.p.w.checkDoom()
}

func (b *backup) drop() {
	b.stage = ended
	if b.a.backups[b.vm] == b {
		b.a.backups[b.vm] = nil
	}
}

// takeOver restores the guest here: the cluster has made this node its primary. The
// replica is frozen: what comes from the old primary is refused from now on.
func (b *backup) takeOver(p *core.Protection) {
	if b.settled {
		return
	}
	b.settled = true
	b.replica.frozen = true
	b.as = p.Generation
	b.stage = restoring
	b.later(b.a.p.w.between(20*time.Millisecond, 80*time.Millisecond))
}

func (b *backup) restored() {
	p, r := b.a.p, &b.replica
	if r.epoch == 0 || p.copies[b.vm] != nil {
		b.finish(core.Command{Kind: core.MarkLost, Stopped: true, Cause: "the guest could not be restored"})
		return
	}
	g := p.w.vms[b.vm]
	p.note("restores %s from checkpoint %d of generation %d", domains[b.vm], r.epoch, b.gen)
	p.w.checkRestore(g, b)
	p.agent.restored[b.vm] = true
	g.restore(p.host, r)
	if o := p.w.stateAt(g, b.as); o != nil && p.w.leased(*o) { // before its taps come up
		c := p.copies[b.vm]
		c.tap.gate = true
		c.setGate(p.host.moment(p.leaseOf(b.vm)))
	}
	b.stage = announcing
	b.later(p.w.between(time.Millisecond, 30*time.Millisecond))
}

func (b *backup) finish(c core.Command) {
	c.Domain, c.Generation = domains[b.vm], b.as
	b.drop()
	if p := b.a.p; p.w.mutant != StaleCommits {
		b.stream.close(1)
	}
	b.a.p.propose(c, func(outcome) {})
	b.a.p.w.checkDoom()
}

// standbysDie: they hang on their agent.
func (h *host) standbysDie(p *process) {
	for i, b := range p.agent.backups {
		if b != nil && b.stage != announcing {
			b.settled = true
			p.agent.backups[i] = nil
		}
	}
	h.w.checkDoom()
}
