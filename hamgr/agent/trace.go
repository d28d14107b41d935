package agent

import (
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// order is the part of a protection that decides who may run and emit.
func order(p core.Protection) trace.Event {
	return trace.Event{
		Kind: trace.Order, Domain: p.Domain, Generation: p.Generation,
		Phase: string(p.Phase), Mode: string(p.Mode), Wanted: string(p.Wanted), Primary: p.Primary, Backup: p.Backup,
	}
}

// traceOrders notes what this node has learned of each protection, before anything here
// acts on it. Called with the agent's lock held.
func (a *Agent) traceOrders(s core.State) {
	if a.cfg.Trace == nil {
		return
	}
	for name, p := range s.Protections {
		if o := order(p); a.orders[name] != o {
			a.orders[name] = o
			o.Index = s.Index
			a.cfg.Trace.Write(o)
		}
	}
	for name, o := range a.orders {
		if _, ok := s.Protections[name]; !ok {
			delete(a.orders, name)
			a.cfg.Trace.Write(trace.Event{Kind: trace.Order, Index: s.Index, Domain: name, Generation: o.Generation, Phase: trace.Gone})
		}
	}
}

// trace notes a moment of the session; epoch 0 is none, the zero time is now.
func (s *session) trace(k trace.Kind, epoch uint64, at time.Time) {
	s.p.agent.cfg.Trace.Write(s.event(k, epoch, at))
}

// traceBoundary notes when QEMU was asked to stop the guest, and when it stood still.
func (s *session) traceBoundary(epoch uint64, asked, stopped time.Time) {
	e := s.event(trace.Boundary, epoch, stopped)
	e.Asked, e.Queued = asked, s.queued
	s.p.agent.cfg.Trace.Write(e)
}

func (s *session) event(k trace.Kind, epoch uint64, at time.Time) trace.Event {
	return trace.Event{Time: at, Kind: k, Domain: s.order.Domain, Generation: s.order.Generation, Epoch: epoch}
}

func (p *primary) trace(k trace.Kind) {
	e := trace.Event{Kind: k, Domain: p.domain}
	if o, _ := p.current(); o != nil {
		e.Generation = o.Generation
	}
	p.agent.cfg.Trace.Write(e)
}

// trace notes a moment of the checkpoint of that epoch.
func (b *backup) trace(k trace.Kind, epoch uint64) {
	b.agent.cfg.Trace.Write(trace.Event{Kind: k, Domain: b.hello.Domain, Generation: b.hello.Generation, Epoch: epoch})
}
