package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// order is a command in a log. Each proposal is one of its own, also when it says the
// same as another; without a kind it is Raft's no-op.
// With managers, it is a change of who they are.
type order struct {
	core.Command
	managers hostSet
}

type entry struct {
	term  uint64
	order *order
}

// state is what a log comes to after its entry of that index. The states of all logs are
// one tree, so what several hosts apply is worked out once.
type state struct {
	index int
	order *order
	s     core.State
	err   error                    // why the order was refused
	p     [maxVMs]*core.Protection // the same pointer for as long as nothing changed
	next  []*state

	managers hostSet
	voters   []string // their names
}

// after is the state once the order is applied.
func (s *state) after(o *order) *state {
	for _, n := range s.next {
		if n.order == o {
			return n
		}
	}
	n := &state{index: s.index + 1, order: o, s: s.s, p: s.p, managers: s.managers, voters: s.voters}
	s.next = append(s.next, n)
	if o.managers != 0 {
		core.Manage(&n.s, uint64(n.index), o.managers.managed())
		n.managers, n.voters = o.managers, o.managers.names()
	}
	if o.Kind == "" {
		return n
	}
	n.err = core.Apply(&n.s, uint64(n.index), o.Command)
	for i := range n.p {
		p, ok := n.s.Protections[domains[i]]
		switch {
		case !ok:
			n.p[i] = nil
		case n.p[i] == nil || !same(*n.p[i], p):
			n.p[i] = &p
		}
	}
	return n
}

// same says that an agent sees no difference (primary.go, setOrder).
func same(a, b core.Protection) bool {
	return a.Generation == b.Generation && a.Phase == b.Phase && a.Mode == b.Mode && a.Wanted == b.Wanted &&
		a.Primary == b.Primary && a.Backup == b.Backup && a.Moving == b.Moving
}

// ledger is all that was ever committed, by whatever leader: what the checkers believe.
type ledger struct {
	chain []*state // by index; 0 is the empty state
}

func (l *ledger) newest() *state { return l.chain[len(l.chain)-1] }

// firstLog is what the managers have agreed on before the first fault.
func (w *World) firstLog() []entry {
	s := &state{}
	w.ledger.chain = append(w.ledger.chain, s)
	var log []entry
	add := func(o *order) {
		o.Time = epoch
		log = append(log, entry{1, o})
		if s = s.after(o); s.err != nil {
			panic(fmt.Sprintf("a schedule that cannot begin: %v: %+v", s.err, w.schedule))
		}
		w.ledger.chain = append(w.ledger.chain, s)
	}
	add(&order{managers: 1<<w.schedule.Managers - 1})
	for _, h := range w.hosts {
		add(&order{Command: core.Command{Kind: core.RegisterNode, Node: &core.Node{
			Name: h.name, ID: h.name, Addr: h.name, Boot: "1", Started: firstIncarnation}}})
	}
	for i, g := range w.schedule.VMs {
		p := core.Protection{Domain: domains[i], UUID: domains[i], Primary: names[g.Primary], Mode: g.Mode, Epoch: g.Epoch}
		if g.Pinned >= 0 {
			p.Pinned = names[g.Pinned]
		}
		c := core.Command{Kind: core.Protect, Domain: p.Domain, Protection: &p}
		if g.Anew {
			p.OnLoss, c.Definition = core.OnLossRestart, "<domain/>"
		}
		add(&order{Command: c})
		w.vms = append(w.vms, newVM(w, i, w.hosts[g.Primary]))
	}
	return log[:len(log):len(log)]
}

// committed notes what a host holds for committed.
func (w *World) committed(by string, log []entry, upTo int) {
	for len(w.ledger.chain) <= upTo {
		before := w.ledger.newest()
		now := before.after(log[before.index].order)
		w.ledger.chain = append(w.ledger.chain, now)
		w.checkDecision(before, now)
	}
	if o := w.ledger.chain[upTo].order; o != log[upTo-1].order {
		w.harmed("raft", "%s holds %v for committed at %d, others %v", by, log[upTo-1].order.Kind, upTo, o.Kind)
	}
}

func (w *World) describe(s *state) string {
	o := s.order
	if o.managers != 0 {
		return "agreed: the managers are " + strings.Join(s.voters, ", ")
	}
	out := fmt.Sprintf("agreed: %s %s", o.Kind, o.Domain)
	switch o.Kind {
	case core.RegisterNode:
		return fmt.Sprintf("agreed: %s is here again", o.Node.Name)
	case core.Drain, core.Undrain:
		return fmt.Sprintf("agreed: %s %s", o.Kind, o.Node.Name)
	}
	if o.Cause != "" {
		out += " (" + o.Cause + ")"
	}
	if s.err != nil {
		return out + " refused: " + s.err.Error()
	}
	if i := vmOf(o.Domain); i >= 0 && s.p[i] != nil {
		p := s.p[i]
		out += fmt.Sprintf(": %s generation %d, %s -> %s, mode %s", p.Phase, p.Generation, p.Primary, orNobody(p.Backup), p.Mode)
		if p.Wanted != "" {
			out += ", to be " + string(p.Wanted)
		}
	}
	return out
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }
