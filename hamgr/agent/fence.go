package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// fence ends this copy: another node owns the domain now. What is over here is seen off.
func (p *primary) fence(ctx context.Context) {
	p.log.Warn("fenced: another node owns the guest")
	p.abandon()
	info, err := p.agent.host.Lookup(ctx, p.domain)
	over := isOver(info, err)
	if over || p.diedAs(info, err) {
		p.seeOff(ctx)
	}
	if over {
		return
	}
	p.stopCopying() // it would take the cut off
	p.agent.cutInput(taps(info))
	if err := bufferqdisc.Drop(taps(info)); err != nil {
		p.log.Error("what an earlier agent held for the fenced copy is held still", "err", err)
	}
	if err := p.agent.host.Destroy(ctx, p.domain); err != nil {
		p.log.Error("the fenced copy could not be ended; its output stays cut", "err", err)
	}
}

// isOver says that a copy that is to be fenced runs no more, by libvirt's word. One that
// sleeps would wake up.
func isOver(info domain.Info, err error) bool {
	return errors.Is(err, domain.ErrNoDomain) || err == nil && !info.Running() && !info.Sleeps()
}

// diedAs says that the copy of the last session has died although libvirt, which takes its
// time over that, does not say so. One with another PID was started since.
func (p *primary) diedAs(info domain.Info, err error) bool {
	return p.qemu != nil && p.qemu.HasEnded() && (err != nil || info.PID == p.qemu.PID)
}

// announcedAfter is how long after the guest's restore the network has had the third
// announcement of that (domain.Announce).
const announcedAfter = 250 * time.Millisecond

// seeOff waits until the guest that is no more here runs elsewhere and the network knows it,
// and stops copying.
func (p *primary) seeOff(ctx context.Context) {
	if p.late == nil {
		return
	}
	defer p.stopCopying()
	ctx, cancel := context.WithTimeout(ctx, lateMost)
	defer cancel()
	changed, stop := p.agent.cluster.Watch()
	defer stop()
	for p.agent.cluster.State().Protections[p.domain].Phase == core.Recovering {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
	_ = sleep(ctx, announcedAfter)
}
