package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
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

	mu    sync.Mutex // guards order and wake, and changes of out
	order *core.Protection
	wake  chan struct{} // closed at each change of order
	out   output
	adopt bool
	pid   int // of the guest's QEMU in the last session
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
		defer p.cancel()
		p.run(ctx)
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

// update tells the job what the cluster wants now; remove, that the protection is gone.
func (p *primary) update(o core.Protection) { p.setOrder(&o) }
func (p *primary) remove()                  { p.setOrder(nil) }

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
	if p.adopt {
		p.recoverGuest(ctx)
	}
	for ctx.Err() == nil {
		o, wake := p.current()
		switch {
		case o == nil:
			p.release(ctx)
			return
		case o.Primary != p.agent.cfg.Node:
			p.fence(ctx, *o)
			return
		case p.adopt && o.Phase != core.Solo && o.Phase != core.Recovering:
			p.giveUpBackup(ctx, *o, "the agent on "+o.Primary+" was restarted")
		case o.Phase == core.Syncing || o.Phase == core.Protected:
			err := p.session(ctx, *o)
			p.sessionEnded(ctx, *o, err)
			continue // sessionEnded has waited for the next order
		case o.Phase == core.Solo:
			p.adopt = false
			p.enterSolo(ctx)
		case o.Phase == core.Recovering:
			p.finishRecovery(ctx, *o)
		case o.Phase == core.Lost:
			return
		}
		p.await(ctx, o, wake)
	}
	p.abandon()
}

// await blocks until the order differs from o.
func (p *primary) await(ctx context.Context, o *core.Protection, wake <-chan struct{}) {
	if now, _ := p.current(); now != o {
		return
	}
	select {
	case <-ctx.Done():
	case <-wake:
	}
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
	dying := errors.Is(cause, errHung) || errors.Is(cause, colo.ErrTruncated)
	switch end := p.agent.howItEnded(ctx, o.Domain, p.pid, dying); end {
	case domain.EndNone:
		p.giveUpBackup(ctx, *now, cause.Error())
	case domain.EndByRequest:
		p.tell(ctx, core.Command{Kind: core.Unprotect, Domain: o.Domain, Generation: o.Generation, Cause: "the guest was shut down"})
	case domain.EndCrash:
		p.guestDied(ctx, *now)
	}
	p.await(ctx, now, wake)
}

// giveUpBackup asks the cluster for leave to run alone.
func (p *primary) giveUpBackup(ctx context.Context, o core.Protection, cause string) {
	p.tell(ctx, core.Command{Kind: core.GoSolo, Domain: o.Domain, Generation: o.Generation, Backup: o.Backup, Cause: cause})
}

func (p *primary) guestDied(ctx context.Context, o core.Protection) {
	kind := core.MarkLost
	if o.Phase == core.Protected {
		kind = core.FailOver
	}
	p.tell(ctx, core.Command{Kind: kind, Domain: o.Domain, Generation: o.Generation, Silenced: true,
		Cause: "QEMU of " + o.Domain + " died on " + o.Primary})
}

func (p *primary) tell(ctx context.Context, c core.Command) {
	if err := p.agent.propose(ctx, c); err != nil && !final(err) {
		p.log.Error("the cluster could not be told", "command", c.Kind, "err", err)
	}
}

// fence ends this copy: another node owns the domain now.
func (p *primary) fence(ctx context.Context, o core.Protection) {
	p.log.Warn("fenced", "generation", o.Generation, "owner", o.Primary)
	p.abandon()
	info, err := p.agent.host.Lookup(ctx, p.domain)
	if errors.Is(err, domain.ErrNoDomain) || err == nil && !info.Running() {
		return
	}
	if err := p.agent.host.Destroy(ctx, p.domain); err != nil {
		p.log.Error("the fenced copy could not be ended; its output stays cut", "err", err)
	}
}

// recoverGuest frees a guest that an earlier agent left in the middle of a checkpoint (I6).
func (p *primary) recoverGuest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := p.agent.recoverDomain(ctx, p.domain); err != nil {
		p.log.Error("the guest could not be taken out of its old session", "err", err)
	}
}

// finishRecovery serves a node whose agent died between restoring and saying so.
func (p *primary) finishRecovery(ctx context.Context, o core.Protection) {
	c := core.Command{Kind: core.Restored, Domain: o.Domain, Generation: o.Generation}
	if info, err := p.agent.host.Lookup(ctx, o.Domain); err != nil || !info.Running() {
		c.Kind, c.Cause = core.MarkLost, fmt.Sprintf("the replica on %s was lost before it could be restored", o.Primary)
	}
	p.tell(ctx, c)
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
	}
	if out.gate != nil {
		g := out.gate.Stats()
		s.Leased, s.Dropped = g.Open, s.Dropped+g.Dropped
	}
	return s
}
