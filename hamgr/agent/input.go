package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/storage/wire"
)

// The input handler at the primary. Without it a guest is protected all the same: what goes
// wrong here is said to the cluster, and is in no checkpoint's way.

// copyInput readies the copies of what goes to the guest, if they are wanted and the
// backup keeps them.
func (s *session) copyInput(a wire.Accepted, backup net.Addr) {
	if !s.order.Input {
		return
	}
	err := fmt.Errorf("%s keeps no copies, see its log", s.order.Backup)
	if len(a.InputPorts) > 0 {
		s.mirror, err = input.NewMirror(input.MirrorConfig{Name: s.order.Domain, Taps: taps(s.info), To: hostOf(backup), Ports: a.InputPorts, PID: s.info.PID, Ended: s.p.qemuEnded()})
	}
	if err == nil {
		err = s.mirror.Count()
	}
	if err != nil {
		s.noInput(err)
		return
	}
	if err = mayOutlive(s.info.NICs); err == nil {
		err = s.mirror.Outlive()
	}
	if err != nil {
		s.p.log.Warn("should QEMU die and this host live, what comes for the guest until it is restored is lost", "err", err)
	}
	s.p.stats.lapse(err)
}

func (s *session) noInput(err error) {
	s.closeInput()
	s.loss.stop(err)
	s.p.stats.input(input.MirrorStats{}, wire.Committed{}, s.loss.problem)
}

func (s *session) closeInput() {
	if s.mirror == nil {
		return
	}
	if err := s.mirror.Close(); err != nil {
		s.p.log.Warn("the input handler was not removed cleanly", "err", err)
	}
	s.mirror = nil
}

// lookEvery is the least time between two looks at the input during the first copy.
const lookEvery = 10 * time.Millisecond

// duringFirstCopy learns what is on its way to the guest uncounted.
func (s *session) duringFirstCopy() {
	if now := time.Now(); s.mirror != nil && now.Sub(s.looked) > lookEvery {
		s.looked = now
		if err := s.mirror.Look(); err != nil {
			s.p.log.Debug("it is not known which packets the guest has", "err", err)
		}
	}
}

// beforeFirstStop has the guest's input wait for the end of the first copy, where QEMU
// stops the guest by itself, or at colo's word. When that will be is known only under
// emulation: mostly soon after all memory has been sent once (colo, endCopy).
func (s *session) beforeFirstStop() {
	if !s.info.KVM {
		s.pauseInput()
	}
}

// pauseInput has the guest's input wait while the guest is being stopped, and returns what
// the checkpoint contains of it. The first one begins the copies: no replica can be
// restored before it.
func (s *session) pauseInput() []uint64 {
	if s.mirror == nil {
		return nil
	}
	if !s.copying {
		if err := s.mirror.Start(); err != nil {
			s.noInput(err)
			return nil
		}
		s.copying = true
	}
	err := s.mirror.Pause(captureTimeout)
	if s.queued = err != nil; s.queued {
		s.p.log.Debug("QEMU may drop a packet", "err", err)
	}
	taken, err := s.mirror.Taken()
	if err != nil {
		s.p.log.Debug("it is not known which packets the guest has", "err", err)
	}
	return taken
}

func (s *session) resumeInput() {
	if s.mirror != nil {
		s.mirror.Resume()
	}
}

// forgetInput lets the backup drop what the checkpoint before the one just committed
// contains: what the guest answered was released an epoch ago and has left the host by
// now. If it has not when the host dies, the requests come a second time and are answered
// again. A guest that moves leaves a host that lives: all can go.
func (s *session) forgetInput(ctx context.Context, taken []uint64, moving bool) error {
	if s.mirror == nil {
		return nil
	}
	copied := s.mirror.Stats()
	s.loss.look(time.Now(), copied.Copied+copied.Failed, copied.Failed+s.kept.Missing+s.kept.Dropped)
	s.p.stats.input(copied, s.kept, s.loss.problem)
	if s.outputWaits() { // what it answers, perhaps
		return nil
	}
	old := s.taken
	if s.taken = taken; moving {
		old = taken
	}
	if old == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := s.sender.Forget(ctx, old); err != nil {
		return fmt.Errorf("backup %s: %w", s.order.Backup, err)
	}
	return nil
}

// tellLoss has the cluster know when a failover would lose input, and when no more. It is
// for a guest that is protected.
func (s *session) tellLoss(ctx context.Context, o core.Protection) {
	if o.Phase != core.Protected || (s.loss.problem != "") == s.lossTold || !s.telling.CompareAndSwap(false, true) {
		return
	}
	s.lossTold = !s.lossTold
	c := core.Command{Kind: core.AsOrdered, Domain: o.Domain, Generation: o.Generation, Cause: "copies of the guest's input are kept again"}
	if s.lossTold {
		c.Kind, c.Cause = core.Degraded, s.loss.problem
		s.p.log.Warn("packets to the guest would be lost in a failover", "cause", c.Cause)
	}
	s.tellers.Go(func() {
		s.p.tell(ctx, c)
		s.telling.Store(false)
	})
}

// clearInput removes what the input handler left on the taps of a guest that is not
// protected any more.
func (p *primary) clearInput(ctx context.Context) {
	p.agent.mu.Lock()
	delete(p.agent.delivered, p.domain)
	p.agent.mu.Unlock()
	info, err := p.agent.host.Lookup(ctx, p.domain)
	if err == nil {
		err = input.Clear(taps(info))
	}
	if err != nil && !errors.Is(err, domain.ErrNoDomain) {
		p.log.Warn("the input handler was not removed cleanly", "err", err)
	}
}

// cutInput keeps everything from a guest that another node owns; it is about to end.
func (a *Agent) cutInput(taps []string) {
	if err := input.Cut(taps); err != nil {
		a.log.Warn("the fenced copy may still receive", "err", err)
	}
}

func hostOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
