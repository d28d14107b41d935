package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/probe"
)

// prober asks the guest's service whether it answers, for as long as the guest runs here.
// It belongs to the guest's primary and ends with it. No checkpoint waits for it: it shares
// nothing with the session.
//
// A failed service is told to people, and that is all: the replica is a copy of the guest,
// with the fault in it, so a failover would only bring it back somewhere else.
type prober struct {
	node  string
	state func() (o core.Protection, ok bool) // as the cluster has it now
	order func() (changed <-chan struct{})    // of the guest's primary
	try   func(context.Context, core.Probe) error
	tell  func(context.Context, core.Command) error

	failed int  // in a row
	ever   bool // it has answered this host
}

func (p *primary) newProber() *prober {
	return &prober{
		node: p.agent.cfg.Node,
		state: func() (core.Protection, bool) {
			o, ok := p.agent.cluster.State().Protections[p.domain]
			return o, ok
		},
		order: func() <-chan struct{} {
			_, wake := p.current()
			return wake
		},
		try:  tryOnce,
		tell: p.agent.proposeOnce,
	}
}

func tryOnce(ctx context.Context, q core.Probe) error {
	t, err := probe.Parse(q.URL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	return t.Try(ctx)
}

// Probe asks a service once, from this host.
func (a *Agent) Probe(ctx context.Context, q core.Probe) error { return tryOnce(ctx, q) }

func (r *prober) run(ctx context.Context) {
	for {
		changed := r.order()
		o, ok := r.state()
		var due <-chan time.Time
		if !ok || !r.runsHere(o) {
			r.failed = 0
		} else if o.Probe.URL != "" {
			due = time.After(o.Probe.Interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			continue
		case <-due:
		}
		if o, ok := r.state(); ok && r.runsHere(o) {
			r.round(ctx, o)
		}
	}
}

func (r *prober) runsHere(o core.Protection) bool {
	return o.Primary == r.node && (o.Phase == core.Solo || o.Phase == core.Syncing || o.Phase == core.Protected)
}

// round asks once. What the cluster knows is in the state, so an agent that was restarted,
// and a new primary, say no more than what is new.
func (r *prober) round(ctx context.Context, o core.Protection) {
	c := core.Command{Domain: o.Domain, Generation: o.Generation}
	began := time.Now()
	err := r.try(ctx, o.Probe)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		r.failed, r.ever = 0, true
		if o.ProbeFailed == "" {
			return
		}
		c.Kind, c.Cause = core.ProbePassed, o.Probe.URL+" answers again"
	default:
		if r.failed++; r.failed < o.Probe.Failures || o.ProbeFailed != "" {
			return
		}
		c.Kind, c.Cause = core.ProbeFailed, r.cause(o, err, time.Since(began))
	}
	if err := r.tell(ctx, c); err == nil {
		r.failed = 0
	}
}

func (r *prober) cause(o core.Protection, err error, took time.Duration) string {
	text := fmt.Sprintf("its service has not answered %d times, the last after %v: %v", r.failed, took.Round(time.Millisecond), err)
	if !r.ever {
		return text + fmt.Sprintf("; nor ever to %s, which may have no way into its network", r.node)
	}
	return text + "; a failover would not help: the replica is a copy"
}
