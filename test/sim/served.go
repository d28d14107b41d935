package sim

import (
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

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
