package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/qmp/colo"
)

// primary is the running side of one protection. Its goroutine owns the output
// buffer and the checkpoint session.
//
//	adopt --> solo <--> session
//	            \          |
//	             +--> fence or remove --> done
//
// The output is opened in output.go only, and there on the cluster's word for the current
// generation.
type primary struct {
	agent  *Agent
	domain string
	log    *slog.Logger
	stats  *stats
	done   chan struct{}
	cancel context.CancelFunc

	mu       sync.Mutex // guards order, silenced, gone and wake, and changes of out
	order    *core.Protection
	silenced *core.Protection // the order under which the cluster was told that the guest cannot emit
	gone     rules.Duty       // once order is nil
	wake     chan struct{}    // closed at each change of order
	out      output
	adopt    bool
	fresh    time.Time // until then a guest that was restored here has the host for itself
	// started is the generation under which the lost guest was started anew here.
	started atomic.Uint64
	qemu    *detector.Process // of the guest in the last session; nil: there was none
	stuck   bool              // it did not leave that when it was to
	late    *lateCopies       // of what comes for it although it is no more here; nil: there are none
}

func newPrimary(a *Agent, p core.Protection, adopt bool) *primary {
	return &primary{
		agent: a, domain: p.Domain, order: &p, adopt: adopt, wake: make(chan struct{}),
		done: make(chan struct{}), stats: newStats(),
		log: a.log.With("domain", p.Domain, "side", "primary"),
	}
}

// start gives the job its goroutine; it ends with ctx, with the protection, or when fenced.
func (p *primary) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	go func() {
		defer close(p.done)
		var probing sync.WaitGroup
		defer probing.Wait()
		defer p.cancel()
		probing.Go(func() { p.newProber().run(ctx) })
		p.run(ctx)
		p.stopCopying()
		p.forgetQEMU()
	}()
}

func (p *primary) stopped() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// update tells the job what the cluster wants now.
func (p *primary) update(o core.Protection) { p.setOrder(&o) }

// ended tells the job that the protection is over, and as what the cluster remembers it.
func (p *primary) ended(e core.Ended, known bool) {
	p.mu.Lock()
	if p.order != nil {
		p.gone = rules.Gone(p.agent.cfg.Node, p.order.Generation, e, known)
	}
	p.mu.Unlock()
	p.setOrder(nil)
}

func (p *primary) setOrder(o *core.Protection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.order != nil && o != nil && o.Generation < p.order.Generation {
		return
	}
	if p.order == nil && o == nil || p.order != nil && o != nil && same(*p.order, *o) {
		return
	}
	p.order = o
	close(p.wake)
	p.wake = make(chan struct{})
}

// same says that two orders ask the same of a primary.
func same(a, b core.Protection) bool {
	return a.Generation == b.Generation && a.Phase == b.Phase && a.Mode == b.Mode && a.Wanted == b.Wanted && a.Moving == b.Moving
}

func (p *primary) current() (*core.Protection, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.order, p.wake
}

func (p *primary) run(ctx context.Context) {
	for ctx.Err() == nil {
		o, wake := p.current()
		d := p.duty(ctx, o)
		if d != rules.Fence {
			p.stopCopying()
		}
		switch d {
		case rules.Release:
			p.release(ctx)
			p.unstickOnce(ctx)
			return
		case rules.Fence:
			p.fence(ctx)
			return
		case rules.Tell:
			p.report(ctx, o, p.afterSession(*o, errors.New("the agent on "+o.Primary+" was restarted"), false))
		case rules.Session:
			err := p.session(ctx, *o)
			p.sessionEnded(ctx, *o, err)
			continue // sessionEnded has waited for the next order
		case rules.Open:
			if p.adopt {
				p.clearInput(ctx)
			}
			p.adopt = false
			p.agent.notes.alone(*o)
			p.enterSolo(ctx, *o)
		case rules.Finish:
			p.report(ctx, o, func(ctx context.Context) (core.Command, bool) {
				g := p.look(ctx, false)
				return rules.AfterRestore(*o, g), g != rules.Unknown
			})
		case rules.Start:
			p.report(ctx, o, func(ctx context.Context) (core.Command, bool) { return p.startAnew(ctx, *o) })
		case rules.Stop:
			p.closeForGood()
			return
		}
		p.await(ctx, o, wake)
	}
	p.leave()
}

func (p *primary) duty(ctx context.Context, o *core.Protection) rules.Duty {
	if o != nil {
		if d := rules.Primary(p.agent.cfg.Node, *o, p.adopt, rules.Unknown); d == rules.Fence {
			return d // whatever has become of it, which libvirt may take its time to say
		}
		return rules.Primary(p.agent.cfg.Node, *o, p.adopt, p.look(ctx, false))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// await blocks until the order differs from o.
func (p *primary) await(ctx context.Context, o *core.Protection, wake <-chan struct{}) {
	if now, _ := p.current(); now != o {
		return
	}
	until, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-until.Done():
		case <-wake:
		}
	}()
	p.unstick(until)
	<-until.Done()
}

// sessionEnded finds out why no checkpoints flow any more and says so to the cluster.
// The output stays held until the answer.
func (p *primary) sessionEnded(ctx context.Context, o core.Protection, cause error) {
	if ctx.Err() != nil {
		return
	}
	now, wake := p.current()
	if now == nil || now.Generation != o.Generation {
		return
	}
	if errors.Is(cause, errMoved) {
		p.await(ctx, now, wake)
		return
	}
	p.log.Warn("checkpoints stopped", "generation", o.Generation, "cause", cause)
	if mutant.Is(mutant.SoloWithoutRaft) {
		p.enterSolo(ctx, *now)
	}
	p.reportEnd(ctx, o.Generation, cause)
	p.await(ctx, now, wake)
}

// reportEnd tells the cluster why no checkpoints flow any more in a generation.
func (p *primary) reportEnd(ctx context.Context, generation uint64, cause error) {
	if now, _ := p.current(); now != nil && now.Generation == generation {
		dying := errors.Is(cause, errHung) || errors.Is(cause, errDied) || errors.Is(cause, colo.ErrTruncated)
		p.report(ctx, now, p.afterSession(*now, cause, dying))
	}
}

// afterSession says what has become of the guest, and what to tell the cluster of it.
func (p *primary) afterSession(o core.Protection, cause error, dying bool) func(context.Context) (core.Command, bool) {
	return func(ctx context.Context) (core.Command, bool) {
		g := p.look(ctx, dying)
		return rules.AfterSession(o, g, cause.Error()), g != rules.Unknown
	}
}

func (p *primary) look(ctx context.Context, dying bool) rules.Guest {
	return p.agent.howItEnded(ctx, p.domain, p.qemu, dying)
}

// report tells the cluster of something until it takes it or refuses it for good, or the
// order changes. It looks again before each try: a guest that was alive may have died.
func (p *primary) report(ctx context.Context, o *core.Protection, what func(context.Context) (core.Command, bool)) {
	for ctx.Err() == nil {
		if now, _ := p.current(); now != o {
			return
		}
		if c, known := what(ctx); known {
			p.silence(c)
			err := p.agent.proposeOnce(ctx, c)
			if err == nil || final(err) {
				return
			}
			p.log.Warn("the managers did not answer, trying again", "command", c.Kind, "err", err)
		}
		_ = sleep(ctx, proposePause)
	}
}

func (p *primary) tell(ctx context.Context, c core.Command) {
	p.silence(c)
	if err := p.agent.propose(ctx, c); err != nil && !final(err) {
		p.log.Error("the cluster could not be told", "command", c.Kind, "err", err)
	}
}

func taps(info domain.Info) []string {
	var names []string
	for _, n := range info.NICs {
		names = append(names, n.Tap)
	}
	return names
}

// snapshot is Stats with the counters of what stands before the network.
func (p *primary) snapshot() Stats {
	s := p.stats.snapshot()
	p.mu.Lock()
	out := p.out
	p.mu.Unlock()
	if out.buffer != nil {
		c := out.buffer.Stats()
		s.Backend, s.Held, s.Released, s.Dropped = c.Backend, c.HeldPackets, c.Released, c.Dropped
		s.HeldBytes, s.ReleasedBytes, s.DroppedBytes = c.HeldBytes, c.ReleasedBytes, c.DroppedBytes
	}
	if out.gate != nil {
		g := out.gate.Stats()
		s.Leased = g.Open
		s.Held, s.HeldBytes = s.Held+g.HeldPackets, s.HeldBytes+g.HeldBytes
		s.Dropped, s.DroppedBytes = s.Dropped+g.Dropped, s.DroppedBytes+g.DroppedBytes
	}
	return s
}
