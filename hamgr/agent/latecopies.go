package agent

import (
	"context"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// A QEMU may die and its host live, or the guest be handed over. Then the network goes on to send here what is for the
// guest until it has learned where the guest was restored, and the input handler goes on to
// copy it (input.Mirror.Outlive).

const (
	// lateMost bounds for how long it does, whatever becomes of the guest.
	lateMost = 2 * time.Second
	// announcedAfter is how long after the guest's restore the network has had the third
	// announcement of that (domain.Announce).
	announcedAfter = 250 * time.Millisecond
)

// lateCopies end by themselves, or are stopped.
type lateCopies struct {
	stop  func()
	timer *time.Timer // that stops them
}

// copyOn has the input of a guest that is no more here copied beyond the session's end.
func (s *session) copyOn() {
	m, log := s.mirror, s.p.log
	if m == nil {
		return
	}
	s.mirror = nil
	stop := sync.OnceFunc(func() {
		if err := m.Close(); err != nil {
			log.Warn("the input handler was not removed cleanly", "err", err)
		}
	})
	s.p.late = &lateCopies{stop, time.AfterFunc(lateMost, stop)}
}

// stopCopying waits for the end of what it stops.
func (p *primary) stopCopying() {
	if p.late != nil {
		p.late.timer.Stop()
		p.late.stop()
		p.late = nil
	}
}

// seeOff waits until the guest that is no more here runs elsewhere and the network knows it, and
// stops copying.
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
