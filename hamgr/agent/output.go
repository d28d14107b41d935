package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// output is what stands between a guest and the network on this host.
//
//	open    nothing does: solo, and syncing until the first checkpoint
//	held    the buffer does: it lets go what is committed
//	leased  the gate does: it closes when this host's lease ends (mode checkpoint, and a
//	        guest that may be started anew elsewhere: where another would have it open)
//	cut     nothing passes; only the cluster's word changes that
//
// It belongs to the job's goroutine; its buffer and gate are read by others under the
// job's lock.
type output struct {
	buffer bufferqdisc.Buffer // nil: none is set up
	gate   *bufferqdisc.Gate  // nil: none is set up
	held   bool
}

// setOutput changes what others may read.
func (p *primary) setOutput(change func(*output)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.out)
}

// setUpBuffer readies the buffer, open.
func (p *primary) setUpBuffer(info domain.Info) error {
	if p.out.buffer != nil {
		return nil
	}
	b, err := bufferqdisc.Setup(bufferqdisc.Config{Taps: taps(info), Name: p.domain})
	if err != nil {
		return err
	}
	p.setOutput(func(o *output) { o.buffer = b })
	return nil
}

// enterSolo opens the output: the cluster has raised the generation, so nobody can
// restore what these packets would contradict.
func (p *primary) enterSolo(ctx context.Context, o core.Protection) {
	if rules.Leased(o) {
		if err := p.openLeased(ctx); err != nil {
			p.log.Error("the output could not be put behind a lease; it stays as it is", "err", err)
		}
		return
	}
	if p.out.buffer == nil && p.out.gate == nil {
		p.clear(ctx)
		return
	}
	if err := p.open(); err != nil {
		p.log.Error("the output could not be opened, trying without a buffer", "err", err)
		p.abandon()
		p.clear(ctx)
		return
	}
	p.trace(trace.Opened)
}

// openLeased opens the output behind the gate: the guest may be started elsewhere once this
// host's lease is over.
func (p *primary) openLeased(ctx context.Context) error {
	info, err := p.agent.host.Lookup(ctx, p.domain)
	if errors.Is(err, domain.ErrNoDomain) {
		return nil // it has ended, and its taps with it
	}
	if err != nil {
		return err
	}
	if err := p.setUpGate(info); err != nil {
		return err
	}
	if p.out.buffer == nil { // an earlier agent's may be there
		err = bufferqdisc.ClearBuffer(taps(info))
	} else if err = p.out.buffer.Open(); err == nil {
		p.setOutput(func(o *output) { o.held = false })
	}
	if err == nil {
		p.trace(trace.Opened)
	}
	return err
}

func (p *primary) open() error {
	if p.out.buffer != nil {
		if err := p.out.buffer.Open(); err != nil {
			return err
		}
		p.setOutput(func(o *output) { o.held = false })
	}
	return p.closeGate()
}

// clear removes whatever stands in the way of the output. What an earlier agent's plug
// holds goes first.
func (p *primary) clear(ctx context.Context) {
	info, err := p.agent.host.Lookup(ctx, p.domain)
	if err != nil {
		return // it has ended, and its taps with it
	}
	if err := bufferqdisc.Clear(taps(info)); err != nil {
		p.log.Error("the output could not be given back its direct path", "err", err)
		return
	}
	p.trace(trace.Opened)
}

// release ends the protection on the operator's word: the guest has its network as before.
func (p *primary) release(ctx context.Context) {
	defer p.clearInput(ctx)
	if p.out.buffer == nil && p.out.gate == nil {
		p.clear(ctx)
		return
	}
	err := p.closeGate()
	if p.out.buffer != nil {
		err = errors.Join(err, p.out.buffer.Teardown())
	}
	if err != nil {
		p.log.Error("the output buffer could not be removed, trying without it", "err", err)
		p.abandon()
		p.clear(ctx)
		return
	}
	p.trace(trace.Opened)
	p.setOutput(func(o *output) { *o = output{} })
}

// abandon stops buffering and leaves the output cut. The safe end of every error path.
func (p *primary) abandon() {
	if p.out.buffer == nil && p.out.gate == nil {
		return
	}
	if p.out.gate != nil {
		p.out.gate.Abandon()
	}
	if p.out.buffer != nil {
		if err := p.out.buffer.Abandon(); err != nil {
			p.log.Error("the output buffer could not be abandoned", "err", err)
		}
	}
	p.trace(trace.Cut)
	p.setOutput(func(o *output) { *o = output{} })
}

// leave is the end of this process, not of the protection: what a plug holds waits for the
// next agent, which lets it go when it has the cluster's leave (clear).
func (p *primary) leave() {
	if p.out.gate != nil {
		p.out.gate.Abandon()
	}
	if p.out.buffer == nil {
		return
	}
	if err := p.out.buffer.Leave(); err != nil {
		p.log.Error("the output buffer was not left cleanly", "err", err)
	}
	if p.out.held {
		p.trace(trace.Cut)
	}
	p.setOutput(func(o *output) { *o = output{} })
}

// endEpoch runs while the guest is stopped: what it has sent belongs to this epoch. The
// first checkpoint of a session also ends the time of open output, and a change of mode
// takes effect. Epoch 0: nothing is held. It says in the order whether the guest moves now.
func (s *session) endEpoch(o *core.Protection) (bufferqdisc.Epoch, error) {
	p := s.p
	o.Moving = s.movesNow(*o)
	hold, letGo := rules.Boundary(*o)
	if hold {
		if err := s.hold(); err != nil {
			return 0, err
		}
	}
	if letGo {
		if err := s.letGo(); err != nil {
			return 0, err
		}
	}
	if !p.out.held {
		return 0, nil
	}
	return p.out.buffer.EndEpoch()
}

func (s *session) hold() error {
	p := s.p
	if p.out.held {
		return nil
	}
	if err := p.setUpBuffer(s.info); err != nil {
		return err
	}
	if err := p.out.buffer.Hold(); err != nil {
		return err
	}
	p.setOutput(func(o *output) { o.held = true })
	s.trace(trace.Hold, 0, time.Time{})
	return nil
}

// letGo opens the buffer behind the gate: the cluster's word is that nothing is held.
func (s *session) letGo() error {
	p := s.p
	if err := p.setUpGate(s.info); err != nil {
		return err
	}
	if !p.out.held {
		return nil
	}
	if err := p.out.buffer.Open(); err != nil {
		return err
	}
	p.setOutput(func(o *output) { o.held = false })
	s.trace(trace.Opened, 0, time.Time{})
	return nil
}

// changeMode follows the operator's wish between two epochs: it makes ready what the mode
// needs and tells the cluster, on whose answer the next boundary acts.
func (s *session) changeMode(ctx context.Context, o core.Protection) {
	tell, closeGate := rules.ModeStep(o, s.p.out.held, s.asked)
	if closeGate {
		if err := s.p.closeGate(); err != nil {
			s.p.log.Error("the gate is still there; the output closes with the lease", "err", err)
		}
	}
	if o.Wanted == "" {
		s.asked = ""
	}
	if !tell {
		return
	}
	c := core.Command{Kind: core.SetMode, Domain: o.Domain, Generation: o.Generation, Mode: o.Wanted}
	if o.Wanted == core.Checkpoint {
		if err := s.p.setUpGate(s.info); err != nil {
			c.Kind, c.Mode, c.Cause = core.WantMode, o.Mode, fmt.Sprintf("not possible on %s: %v", o.Primary, err)
		}
	}
	s.asked = o.Wanted
	s.tellers.Go(func() { s.p.tell(ctx, c) })
}
