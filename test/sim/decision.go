package sim

import (
	"fmt"

	"github.com/hamgr/hamgr/hamgr/core"
)

// checkDecision is I3: what a generation says of a guest's owner and backup never changes.
func (w *World) checkDecision(before, now *state) {
	if w.say != nil && (now.order.Kind != "" || now.order.managers != 0) {
		w.tell("cluster", "%s", w.describe(now))
	}
	if now.err != nil {
		return
	}
	for i, g := range w.vms {
		was, is := before.p[i], now.p[i]
		if was == is {
			continue
		}
		if was != nil && is != nil && (is.Generation < was.Generation ||
			is.Generation == was.Generation && (is.Primary != was.Primary || is.Backup != was.Backup)) {
			w.harmed("I3", "generation %d of %s was %s -> %s and becomes generation %d, %s -> %s", was.Generation, domains[i],
				was.Primary, was.Backup, is.Generation, is.Primary, is.Backup)
		}
		w.checkOrder(was, is, now.order)
		g.free = is == nil
		g.gone = g.free && g.running == 0 // the operator has given up what there was to restore it from
		switch now.order.Kind {
		case core.FailOver:
			w.stats.Failovers++
			w.checkTakeover(g, is)
			w.checkTarget(g, was, is, now)
			if now.order.Planned {
				w.stats.Moves++
				w.checkMove(g, was, is)
			}
		case core.Restart:
			w.checkTakeover(g, is)
		case core.GoSolo:
			w.stats.Solos++
		case core.Synced:
			g.boot = now.s.Nodes[is.Backup].Boot
		}
	}
	w.checkDoom()
}

// checkTakeover is I2 at the moment at which a guest gets another owner: whatever is left of
// it elsewhere is not heard any more, and cannot be until its host knows.
func (w *World) checkTakeover(g *vm, is *core.Protection) {
	for _, h := range w.hosts {
		if c := h.copies[g.id]; c != nil && c.emits() && h.name != is.Primary {
			w.harmed("I2", "%s is given to %s while it can be heard on %s", domains[g.id], is.Primary, h.name)
		}
	}
}

// checkEnds: hamgr ends copies that are another's, or nobody's, by what it knows, and not the
// guest itself.
func (w *World) checkEnds(c *copy) {
	if c.vm.ownerIn(c.host.proc.agent.seen) == c.host.name {
		w.harmed("harm", "%s ends %s, which is its own", c.host.name, domains[c.vm.id])
	}
}

// checkTarget: a failover never goes to a host whose replica is known to be gone, while
// the guest still runs elsewhere.
func (w *World) checkTarget(g *vm, was, is *core.Protection, now *state) {
	alive := w.hosts[hostOf(was.Primary)].copies[g.id] != nil
	if alive && !w.restorable(g, is.Primary, was.Generation) && now.s.Nodes[is.Primary].Boot != g.boot {
		w.harmed("harm", "%s lives on %s and is given to %s, whose hamgr was restarted and has no replica", domains[g.id], was.Primary, is.Primary)
	}
}

// checkOrder is I3: what was decided on one generation changes nothing in another; and a
// guest with a replica is not given up.
func (w *World) checkOrder(was, is *core.Protection, o *order) {
	if was != nil && o.Generation > 0 && o.Generation != was.Generation {
		w.harmed("I3", "%s of %s was decided on generation %d and takes effect in %d", o.Kind, o.Domain, o.Generation, was.Generation)
	}
	if g := w.vms[vmOf(o.Domain)]; o.Kind == core.MarkLost && was.Phase == core.Protected && w.restorable(g, was.Backup, was.Generation) {
		w.harmed("harm", "%s is given up, though %s has its replica", o.Domain, was.Backup)
	}
}

// checkMove: a planned move loses nothing. A guest that was not given its answer in time runs
// on unseen, and what it has done then may be undone.
func (w *World) checkMove(g *vm, was, is *core.Protection) {
	p := w.hosts[hostOf(was.Primary)].proc
	if p == nil || !w.restorable(g, is.Primary, was.Generation) {
		return
	}
	j := p.agent.jobs[g.id]
	if j == nil || j.s == nil || j.s.stage != handing || j.copy() == nil {
		return
	}
	c := j.copy()
	r := w.hosts[hostOf(is.Primary)].proc.agent.backups[g.id].replica
	if r.branch != c.branch || r.count != c.count {
		w.harmed("harm", "%s is moved from %s, where it has come to %d of branch %d, but %s has %d of branch %d",
			domains[g.id], was.Primary, c.count, c.branch, is.Primary, r.count, r.branch)
	}
}

// restorable says that a host holds a replica of that generation.
func (w *World) restorable(g *vm, node string, gen uint64) bool {
	p := w.hosts[hostOf(node)].proc
	if p == nil {
		return false
	}
	b := p.agent.backups[g.id]
	return b != nil && b.gen == gen && b.replica.epoch > 0
}

// checkDoom notes guests whose every copy is gone: nothing can be done for them, unless the
// first whole checkpoint of a session is on its way to a backup.
func (w *World) checkDoom() {
	for i, g := range w.vms {
		p := g.agreed()
		if g.doomed != "" || p == nil || g.owner() != nil {
			continue
		}
		switch {
		case p.Backup != "" && w.restorable(g, p.Backup, p.Generation): // the cluster may not know yet that it is protected
		case p.Phase == core.Recovering && w.restorable(g, p.Primary, p.Generation-1):
		default:
			g.doomed = fmt.Sprintf("%s, generation %d: no copy runs on %s, and there is no replica", p.Phase, p.Generation, p.Primary)
			g.forsaken = g.lives()
			if w.say != nil {
				w.tell("checker", "%s is beyond help: %s", domains[i], g.doomed)
			}
		}
	}
}

// lives says that a copy runs somewhere that nothing was restored after.
func (g *vm) lives() bool {
	for _, h := range g.w.hosts {
		if c := h.copies[g.id]; c != nil && c.branch == g.line {
			return true
		}
	}
	return false
}
