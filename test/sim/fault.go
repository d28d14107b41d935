package sim

import (
	"fmt"
	"time"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/hamgr/core"
)

// allFaults is the end of all.
const allFaults = ^uint32(0)

// active is a fault that goes on.
type active struct {
	on           bool
	target, peer int
	copy         *copy // of HangQEMU
}

// resolve finds the host that a target means now; -1: none.
func (w *World) resolve(t Target) int {
	role := func(of Target) *core.Protection {
		if i := int(t - of); i < len(w.vms) {
			return w.vms[i].agreed()
		}
		return nil
	}
	switch {
	case t >= Backup:
		if p := role(Backup); p != nil && p.Backup != "" {
			return hostOf(p.Backup)
		}
		return -1
	case t >= Primary:
		if p := role(Primary); p != nil {
			return hostOf(p.Primary)
		}
		return -1
	case t == Leader:
		for i := range w.hosts {
			if p := w.hosts[i].proc; p != nil && p.raft.role == leading {
				return i
			}
		}
		return -1
	}
	return int(t)
}

// begins has a fault happen, if there is what it is to happen to.
func (w *World) begins(i int) {
	f := w.schedule.Faults[i]
	if w.stable {
		return
	}
	a := &w.active[i]
	a.target, a.peer = w.resolve(f.Target), w.resolve(f.Peer)
	if a.target < 0 || !w.inflict(f, a) {
		return
	}
	w.stats.Faults[f.Kind]++
	a.on = f.For > 0
	if w.say != nil {
		w.tell("FAULT", "%s", f.told(a.target, a.peer))
	}
	if a.on {
		w.after(f.For, event{kind: faultOff, arg: uint32(i)})
	}
}

// inflict says whether it could be done.
func (w *World) inflict(f Fault, a *active) bool {
	h := w.hosts[a.target]
	switch f.Kind {
	case KillHamgr:
		if h.proc == nil {
			return false
		}
		h.killHamgr()
	case StopHamgr:
		if h.proc == nil || h.still > 0 {
			return false
		}
		h.stopHamgr()
	case PowerOff:
		if !h.up {
			return false
		}
		h.powerOff()
	case KillQEMU:
		c := w.vms[f.VM].owner()
		if c == nil {
			return false
		}
		c.die()
		w.checkDoom()
	case HangQEMU:
		if a.copy = w.vms[f.VM].owner(); a.copy == nil {
			return false
		}
		a.copy.hung++
	case StandStill:
		h.stop()
	case CutOff, Deaf, Mute:
		w.cut(a, f.Kind, 1)
	case CutPair, DeafTo:
		if a.peer < 0 || a.peer == a.target {
			return false
		}
		w.cut(a, f.Kind, 1)
	case GuestNet:
		h.dark++
	case Storm:
		w.net.storms++
	case ClockJump:
		h.wall += f.Jump
	case DiskStall:
		h.stalled = max(h.stalled, w.now+f.For)
	case NoMemory:
		h.full++
	default:
		return w.asks(f, h)
	}
	return true
}

// cut counts a fault that cuts links, by 1 or -1.
func (w *World) cut(a *active, k FaultKind, by int) {
	for i := range w.hosts {
		if i == a.target || (k == CutPair || k == DeafTo) && i != a.peer {
			continue
		}
		if k != Mute {
			w.net.cut[i][a.target] += by
		}
		if k == CutOff || k == CutPair || k == Mute {
			w.net.cut[a.target][i] += by
		}
	}
}

func (w *World) ends(i int) {
	if uint32(i) == allFaults {
		w.calm()
		return
	}
	f, a := w.schedule.Faults[i], &w.active[i]
	if !a.on {
		return
	}
	a.on = false
	if w.say != nil {
		w.tell("over", "%s", f.told(a.target, a.peer))
	}
	h := w.hosts[a.target]
	switch f.Kind {
	case KillHamgr, StopHamgr:
		h.startHamgr()
	case PowerOff:
		h.powerOn()
	case HangQEMU:
		a.copy.goesOn()
	case StandStill:
		h.cont()
	case CutOff, Deaf, Mute, CutPair, DeafTo:
		w.cut(a, f.Kind, -1)
	case GuestNet:
		h.dark--
	case Storm:
		w.net.storms--
	case NoMemory:
		h.full--
	case AskDrain:
		w.undrain()
	}
}

// calm ends all faults: from here on all is to become well.
func (w *World) calm() {
	for i := range w.active {
		w.ends(i)
	}
	w.undrain()
	w.stable, w.healed = true, w.now
	w.net.loss = 0
	if w.say != nil {
		w.tell("CALM", "all faults are over")
	}
}

// asks is the operator, at any host that runs.
func (w *World) asks(f Fault, h *host) bool {
	p, g := h.proc, w.vms[f.VM]
	if p == nil || h.still > 0 || !p.caughtUp {
		return false
	}
	if f.Kind == AskManager || f.Kind == AskDismiss {
		p.askManager(f.Kind, h.id)
		return true
	}
	if f.Kind == AskDrain {
		p.ask(core.Command{Kind: core.Drain, Node: &core.Node{Name: h.name}, Cause: "asked by operator"})
		return true
	}
	now := p.raft.state.p[f.VM]
	c := core.Command{Domain: domains[f.VM], Cause: "asked by operator"}
	switch {
	case f.Kind == AskBegin:
		if now != nil || g.agreed() != nil || g.running != 1 {
			return false
		}
		for _, at := range w.hosts {
			if at.copies[f.VM] != nil && at.hasSettled(f.VM) {
				c.Protection = &core.Protection{Domain: c.Domain, UUID: c.Domain, Primary: at.name, Epoch: w.schedule.VMs[f.VM].Epoch}
			}
		}
		if c.Kind = core.Protect; c.Protection == nil {
			return false
		}
	case now == nil:
		return false
	case f.Kind == AskEnd:
		c.Kind, c.Generation = core.Unprotect, now.Generation
	case f.Kind == AskMove || f.Kind == AskMoveNow:
		if now.Phase != core.Protected || now.Backup != p.name && p.table.Status()[now.Backup].State != judge.Alive {
			return false // api/protect.go
		}
		if c.Kind, c.Generation = core.Move, now.Generation; f.Kind == AskMoveNow {
			c.Kind = core.FailOver
		}
	case f.Kind == AskMode:
		c.Kind, c.Generation, c.Mode = core.WantMode, now.Generation, core.Checkpoint
		if now.Mode == core.Checkpoint {
			c.Mode = core.Buffer
		}
	}
	p.ask(c)
	return true
}

// hasSettled mirrors hamgr/agent api.go: the host has seen to the end of the guest's
// protection, and what runs there is no copy of a former time.
func (h *host) hasSettled(vm int) bool {
	p := h.proc
	if p == nil || h.still > 0 || !p.agent.listens() {
		return false
	}
	j := p.agent.jobs[vm]
	return uint64(p.agent.seen.index) >= h.w.ledger.newest().s.Ended[domains[vm]].Index && (j == nil || j.over)
}

// undrain is the operator, at any host that runs, about all that are drained.
func (w *World) undrain() {
	for i, h := range w.hosts {
		if n := w.ledger.newest().s.Nodes[h.name]; n.Drained && w.now >= w.undrained[i] {
			w.undrained[i] = w.now + time.Second
			w.operator(core.Command{Kind: core.Undrain, Node: &core.Node{Name: h.name}})
		}
	}
}

// operator asks once, wherever hamgr runs.
func (w *World) operator(c core.Command) {
	for _, h := range w.hosts {
		if h.proc != nil && h.still == 0 {
			h.proc.ask(c)
			return
		}
	}
}

// told is a fault in words.
func (f Fault) told(target, peer int) string {
	h, other := names[max(0, target)], names[max(0, peer)]
	for_ := " for " + ms(f.For)
	switch f.Kind {
	case KillHamgr:
		return "hamgr on " + h + " is killed" + for_
	case StopHamgr:
		return "operator: stops hamgr on " + h + for_
	case PowerOff:
		return h + " has no power" + for_
	case KillQEMU:
		return "QEMU of " + domains[f.VM] + " is killed"
	case HangQEMU:
		return "QEMU of " + domains[f.VM] + " hangs" + for_
	case StandStill:
		return "hamgr on " + h + " stands still" + for_
	case CutOff:
		return h + " is cut off" + for_
	case CutPair:
		return h + " and " + other + " do not reach each other" + for_
	case DeafTo:
		return h + " does not hear " + other + for_
	case Deaf:
		return h + " hears nobody" + for_
	case Mute:
		return "nobody hears " + h + for_
	case GuestNet:
		return "the guests of " + h + " are off the network" + for_
	case Storm:
		return "messages are lost, late, doubled" + for_
	case ClockJump:
		return fmt.Sprintf("the clock of %s jumps by %v", h, f.Jump.Round(time.Millisecond))
	case DiskStall:
		return "the disk of " + h + " does not answer" + for_
	case NoMemory:
		return h + " has no memory for a standby" + for_
	}
	switch f.Kind {
	case AskDrain:
		return "operator: drain " + h + for_
	case AskManager:
		return "operator: " + h + " is to be a manager"
	case AskDismiss:
		return "operator: " + h + " is to be no manager"
	}
	return "operator at " + h + ": " + string(f.Kind) + " " + domains[f.VM]
}
