package agent

import (
	"errors"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// setUpGate readies the gate, open for as long as this host's lease lasts.
func (p *primary) setUpGate(info domain.Info) error {
	if p.out.gate != nil {
		return nil
	}
	g, err := bufferqdisc.NewGate(p.domain, taps(info), p.agent.lease(p))
	if err != nil {
		return err
	}
	p.setOutput(func(o *output) { o.gate = g })
	return nil
}

func (p *primary) closeGate() error {
	if p.out.gate == nil {
		return nil
	}
	if err := p.out.gate.Close(); err != nil {
		return err
	}
	p.setOutput(func(o *output) { o.gate = nil })
	return nil
}

// gate is nil if there is none.
func (p *primary) gate() *bufferqdisc.Gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.gate
}

// extendLease is the agent's, every few milliseconds; the gate may be removed meanwhile.
func (p *primary) extendLease(g *bufferqdisc.Gate, until time.Time) {
	err := g.Extend(until)
	if err != nil && !errors.Is(err, bufferqdisc.ErrCut) && !errors.Is(err, bufferqdisc.ErrClosed) {
		p.log.Error("the lease could not be extended; the output closes", "err", err)
	}
}

// silence comes before a command that tells the cluster that the guest cannot emit, as it is
// over: what it has said and what waits for a lease would leave beside the restored one. It
// has no lease any more under this order. Other commands change nothing.
func (p *primary) silence(c core.Command) {
	if !c.Silenced && !c.Stopped {
		return
	}
	p.mu.Lock()
	p.silenced = p.order
	g := p.out.gate
	p.mu.Unlock()
	if g != nil {
		g.Drop()
	}
}

func (p *primary) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silenced != nil && p.silenced == p.order
}

// closeForGood is the end of the job of a guest that is over; a gate would stay as long as
// this process.
func (p *primary) closeForGood() {
	if p.out.gate != nil {
		p.out.gate.Abandon()
		p.setOutput(func(o *output) { o.gate = nil })
	}
}

// moveWait is for how long a guest that is to move waits with its output for a lease. It
// moves without that in the end: there may never be one again on this host.
const moveWait = time.Second

// movesNow says that the guest can move at this epoch's end: what waits for a lease then is
// in no epoch, and lost.
func (s *session) movesNow(o core.Protection) bool {
	if !o.Moving || !s.outputWaits() {
		s.moves = time.Time{}
		return o.Moving
	}
	if s.moves.IsZero() {
		s.moves = time.Now().Add(moveWait)
	}
	return time.Now().After(s.moves)
}

// outputWaits says that some of it waits for a lease.
func (s *session) outputWaits() bool {
	return s.p.out.gate != nil && s.p.out.gate.Stats().HeldPackets > 0
}
