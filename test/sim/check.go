package sim

import (
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// checkEmitters is I2: at most one copy of a guest can have a packet reach the network.
func (w *World) checkEmitters() {
	for _, g := range w.vms {
		if g.running < 2 {
			continue
		}
		var first *copy
		for _, h := range w.hosts {
			c := h.copies[g.id]
			if c == nil || !c.emits() {
				continue
			}
			if first != nil {
				w.harmed("I2", "%s can be heard from %s and from %s", domains[g.id], first.host.name, h.name)
				return
			}
			first = c
		}
	}
}

// limit is up to which count of a branch the guest has lived, as it is now; 0: the branch
// is none of its past.
func (g *vm) limit(branch int) uint64 {
	to := ^uint64(0)
	for b := g.line; b >= 0; b = g.branches[b].parent {
		if b == branch {
			return to
		}
		to = g.branches[b].fork
	}
	return 0
}

// seen is a packet that has reached the network: what it says must be part of the guest's
// past (I1, and I2 of a former primary).
func (g *vm) seen(c *copy, p packet) {
	w := g.w
	switch limit := g.limit(p.branch); {
	case p.count > limit:
		w.harmed("I1", "%s on %s says %d of branch %d, but the guest was restored from %d of it and lives on branch %d",
			domains[g.id], c.host.name, p.count, p.branch, limit, g.line)
	case p.branch != g.line:
		w.stats.Late++
	default:
		g.heard = w.now
	}
	b := &g.branches[p.branch]
	b.seen = max(b.seen, p.count)
}

// restore starts the guest from a replica, as another branch. On a host that has missed that
// it has another owner by now that is no part of its life, and must never be seen.
func (g *vm) restore(h *host, r *replica) {
	g.branches = append(g.branches, branch{parent: r.branch, fork: r.count})
	at := len(g.branches) - 1
	if g.w.ownerOf(g) == h.name {
		g.line = at
	}
	g.run(h, at, r.count, r.mem)
}

// ownerOf is the host that has the guest, or had it when its protection ended.
func (w *World) ownerOf(g *vm) string {
	return g.ownerIn(w.ledger.newest())
}

func (g *vm) ownerIn(s *state) string {
	if p := s.p[g.id]; p != nil {
		return p.Primary
	}
	return s.s.Ended[domains[g.id]].Primary
}

// anew starts the guest without its memory. What its former life had said by its last
// checkpoint may still be on its way.
func (g *vm) anew(h *host) {
	g.branches = append(g.branches, branch{parent: g.line, fork: g.branches[g.line].committed})
	g.line = len(g.branches) - 1
	g.run(h, g.line, 0, [pages]uint64{})
}

// checkGiven is I3 at the moment at which a copy is let run.
func (w *World) checkGiven(g *vm, on *process, gen uint64) bool {
	p := w.stateAt(g, gen)
	if p != nil && p.Primary == on.name && p.Phase == core.Recovering {
		return true
	}
	w.harmed("I3", "%s runs %s under generation %d, which no majority has given to it", on.name, domains[g.id], gen)
	return false
}

// checkRestore is I1, I3 and I4 at the moment at which a copy is let run.
func (w *World) checkRestore(g *vm, b *backup) {
	w.checkWhole(b)
	if w.mutant != FailoverWithoutRaft && !w.checkGiven(g, b.a.p, b.as) { // which is to be found by what it does
		return
	}
	r := &b.replica
	if w.ownerOf(g) != b.a.p.name {
		return
	}
	for branch := g.line; branch >= 0; branch = g.branches[branch].parent {
		seen, limit := g.branches[branch].seen, r.count
		if branch != r.branch {
			limit = 0
			if g.isPast(branch, r.branch) {
				continue
			}
		}
		if seen <= limit {
			continue
		}
		if g.held(b.as) {
			w.harmed("I1", "%s is restored from %d of branch %d, but %d of branch %d was seen", domains[g.id], r.count, r.branch, seen, branch)
			return
		}
		w.stats.Rollbacks++
	}
}

// isPast says that branch is an ancestor of from.
func (g *vm) isPast(branch, from int) bool {
	for b := g.branches[from].parent; b >= 0; b = g.branches[b].parent {
		if b == branch {
			return true
		}
	}
	return false
}

// held says that the output was to be held when that generation began, by a failover.
func (g *vm) held(gen uint64) bool {
	chain := g.w.ledger.chain
	for i := len(chain) - 1; i > 0; i-- {
		if p := chain[i].p[g.id]; p == nil || p.Generation < gen {
			return p != nil && p.Mode == core.Buffer && p.Wanted == ""
		}
	}
	return false
}

// stateAt is what was agreed of a guest when its generation began; nil: there is no such.
func (w *World) stateAt(g *vm, gen uint64) *core.Protection {
	for _, s := range w.ledger.chain {
		if p := s.p[g.id]; p != nil && p.Generation == gen {
			return p
		}
	}
	return nil
}

// checkWhole is I4: each page holds what the guest had written when the checkpoint was made.
func (w *World) checkWhole(b *backup) {
	r := &b.replica
	for i, got := range r.mem {
		want := uint64(0) // the last count up to r.count that is written to page i
		if back := (r.count + pages - uint64(i)) % pages; back <= r.count {
			want = r.count - back
		}
		if want > 0 && got != want {
			w.harmed("I4", "the replica of %s on %s says it is %d, but page %d is of %d", domains[b.vm], b.a.p.name, r.count, i, got)
		}
	}
}

// checkOpens is I3 for solo: an output is opened on the cluster's word only.
func (w *World) checkOpens(p *process, c *copy, o *core.Protection) {
	if o == nil || w.mutant == SoloWithoutRaft { // the mutant is to be found by what it does
		return
	}
	if agreed := w.stateAt(c.vm, o.Generation); agreed == nil || agreed.Primary != p.name {
		w.harmed("I3", "%s opens the output of %s under generation %d, which was never agreed on", p.name, o.Domain, o.Generation)
	}
}

// checkView is the model's own: a host acts on committed states only.
func (w *World) checkView(p *process, s *state) {
	if s.index >= len(w.ledger.chain) || w.ledger.chain[s.index] != s {
		w.harmed("raft", "%s acts on a state that was never committed", p.name)
	}
}

// checkDecision is I3: what a generation says of a guest's owner and backup never changes.
func (w *World) checkDecision(before, now *state) {
	if w.say != nil && now.order.Kind != "" {
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

// checkProposal: a primary does not give up the replica of a guest that has ended.
func (p *process) checkProposal(c core.Command) {
	if c.Kind != core.GoSolo {
		return
	}
	g := p.w.vms[vmOf(c.Domain)]
	o := g.agreed()
	if o == nil || o.Generation != c.Generation || o.Phase != core.Protected || g.owner() != nil || !p.w.restorable(g, o.Backup, o.Generation) {
		return
	}
	p.w.harmed("harm", "%s gives up the replica of %s on %s, though the guest has ended", p.name, c.Domain, o.Backup)
}

// checkWatchdog is I6: no guest stands still for long under a hamgr that runs.
func (w *World) checkWatchdog(c *copy) {
	p := c.host.proc
	if p == nil || c.host.still > 0 {
		return
	}
	if since := max(c.since, p.since); w.now-since > p.local(watchdog) {
		w.harmed("I6", "%s stands still on %s for %s", domains[c.vm.id], c.host.name, ms(w.now-c.since))
	}
}

// settled says that all is well again; not to become so in time is a violation.
func (w *World) settled() bool {
	if w.now < w.look {
		return false
	}
	w.look = w.now + 50*time.Millisecond
	w.undrain()
	for i, g := range w.vms {
		why := g.unserved()
		if why == "" {
			why = g.left(g.agreed())
		}
		if why == "" {
			continue
		}
		w.well = 0
		if w.now > w.healed+patience {
			w.harmed(Unserved, "%s, %s after the last fault: %s", domains[i], ms(w.now-w.healed), why)
		}
		return false
	}
	if w.well++; w.well == 1 {
		w.stats.Slowest = w.now - w.healed
	}
	if w.well <= 6 {
		return false
	}
	for _, g := range w.vms {
		if g.running == 0 && g.doomed != "" {
			if w.stats.Lost++; g.forsaken {
				w.stats.Forsaken++
			}
		}
	}
	return true
}

// left is I7: nothing half-done stays behind.
func (g *vm) left(p *core.Protection) string {
	for _, h := range g.w.hosts {
		if h.proc == nil {
			continue
		}
		b := h.proc.agent.backups[g.id]
		if b != nil && (p == nil || p.Backup != h.name || p.Generation != b.gen) {
			return fmt.Sprintf("%s keeps a replica, of generation %d, that nobody needs", h.name, b.gen)
		}
	}
	return ""
}

// unserved says what is wrong with a guest; "": all is well.
func (g *vm) unserved() string {
	p := g.agreed()
	switch {
	case p == nil && (g.gone || g.doomed != ""):
		return ""
	case p == nil && g.running != 1:
		return fmt.Sprintf("not protected any more, and %d copies run", g.running)
	case p == nil:
		return g.mute()
	case g.doomed != "" && p.Phase == core.Lost && g.running == 0 && (p.OnLoss != core.OnLossRestart || p.Starts == core.StartsAtMost):
		return ""
	case p.Phase != core.Protected:
		return fmt.Sprintf("it is %s (generation %d, %s -> %s)", p.Phase, p.Generation, p.Primary, orNobody(p.Backup))
	case g.running != 1:
		return fmt.Sprintf("%d copies run", g.running)
	case p.Wanted != "":
		return fmt.Sprintf("it was to be in mode %s", p.Wanted)
	case g.heard < g.w.healed:
		return "nothing was heard of it since"
	}
	return ""
}

func (g *vm) mute() string {
	for _, h := range g.w.hosts {
		if c := h.copies[g.id]; c != nil && (c.tap.cut || c.tap.hold || c.tap.gate) {
			return "it was unprotected, and has no network"
		}
	}
	return ""
}
