package sim

import "github.com/hamgr/hamgr/hamgr/core"

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
