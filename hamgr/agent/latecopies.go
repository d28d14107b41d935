package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/domain"
)

// A QEMU may die and its host live, or the guest be handed over. Then the network goes on to
// send here what is for the guest until it has learned where the guest was restored, and the
// input handler goes on to copy it (input.Mirror.Outlive).

// lateMost bounds for how long it does, whatever becomes of the guest.
const lateMost = 2 * time.Second

// lateCopies end by themselves, or are stopped.
type lateCopies struct {
	stop  func()
	timer *time.Timer // that stops them
}

// mayOutlive says what keeps a guest's taps from being of use without its QEMU.
func mayOutlive(nics []domain.NIC) error {
	for _, n := range nics {
		switch {
		case n.Filtered:
			return fmt.Errorf("libvirt takes its filters off %s then", n.Tap)
		case n.OpenVSwitch:
			return fmt.Errorf("libvirt takes %s out of Open vSwitch then", n.Tap)
		}
	}
	return nil
}

// copyOn has the input of a guest that is no more here copied beyond the session's end.
func (s *session) copyOn() {
	m, log := s.mirror, s.p.log
	if m == nil {
		return
	}
	s.mirror = nil
	s.p.late = copyUntilStopped(func() {
		if err := m.Close(); err != nil {
			log.Warn("the input handler was not removed cleanly", "err", err)
		}
	})
}

// copyUntilStopped ends copies once: when they are stopped, or after lateMost.
func copyUntilStopped(end func()) *lateCopies {
	end = sync.OnceFunc(end)
	return &lateCopies{end, time.AfterFunc(lateMost, end)}
}

// stopCopying waits for the end of what it stops.
func (p *primary) stopCopying() {
	if p.late != nil {
		p.late.timer.Stop()
		p.late.stop()
		p.late = nil
	}
}
