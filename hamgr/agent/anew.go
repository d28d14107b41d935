package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
)

// startTimeout bounds libvirt's start of a lost guest.
const startTimeout = 30 * time.Second

// startAnew starts a guest that was lost from its definition, unless it runs here after
// all, and says what to tell the cluster of it. Without a lease it waits: a host that stood
// still may have the order of a time before the guest was given to another.
func (p *primary) startAnew(ctx context.Context, o core.Protection) (core.Command, bool) {
	c := core.Command{Kind: core.Restored, Domain: o.Domain, Generation: o.Generation, Cause: "started anew: its memory is lost"}
	if !time.Now().Before(p.agent.leaseOf(o.Domain)) {
		return c, false
	}
	switch p.look(ctx, false) {
	case rules.Unknown:
		return c, false
	case rules.Running:
		if rules.MayKeep(o, p.started.Load()) {
			c.Cause = "it runs on " + o.Primary + " after all"
			return c, true
		}
		if p.fence(ctx); p.look(ctx, false) == rules.Running {
			return c, false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p.abandon() // what is left of its former life
	p.agent.forgetEnd(o.Domain)
	p.log.Warn("starting a lost guest anew", "generation", o.Generation)
	p.started.Store(o.Generation)
	p.agent.notes.alone(o)
	if err := p.startLeased(ctx, p.agent.cluster.State().Definitions[o.Domain]); err != nil {
		c.Kind, c.Cause, c.Stopped = core.MarkLost, "it did not start on "+o.Primary+": "+err.Error(), true
	}
	return c, true
}

// startLeased starts the guest and puts the gate before it, as it may be started elsewhere
// once this host is not heard any more. After an error it does not run.
func (p *primary) startLeased(ctx context.Context, xml string) error {
	if err := p.agent.host.Start(ctx, xml); err != nil {
		return err
	}
	info, err := p.agent.host.Lookup(ctx, p.domain)
	if err == nil {
		err = p.setUpGate(info)
	}
	if err != nil {
		return errors.Join(err, p.agent.host.Destroy(ctx, p.domain))
	}
	return nil
}
