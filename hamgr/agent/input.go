package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/storage/wire"
)

// The input handler in the agent. Without it a guest is protected all the same: whatever
// goes wrong here is said once, in the log and in the status, and nothing else.

// copyInput readies the copies of what goes to the guest, if they are wanted and the
// backup keeps them.
func (s *session) copyInput(a wire.Accepted, backup net.Addr) {
	if !s.order.Input {
		return
	}
	err := fmt.Errorf("%s keeps no copies, see its log", s.order.Backup)
	if len(a.InputPorts) > 0 {
		s.mirror, err = input.NewMirror(input.MirrorConfig{Name: s.order.Domain, Taps: taps(s.info), To: hostOf(backup), Ports: a.InputPorts})
	}
	if err != nil {
		s.noInput(err)
	}
}

func (s *session) noInput(err error) {
	s.closeInput()
	s.p.stats.inputProblem(err)
	s.p.log.Warn("input is not copied to the backup: packets will be lost in a failover", "err", err)
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

// pauseInput has the guest's input wait while the guest is being stopped, and returns what
// the checkpoint contains of it. The first one begins the copies: no replica can be
// restored before it.
func (s *session) pauseInput(epoch uint64) []uint64 {
	if s.mirror == nil {
		return nil
	}
	if epoch == 1 {
		if err := s.mirror.Start(); err != nil {
			s.noInput(err)
			return nil
		}
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
	s.p.stats.input(s.mirror.Stats(), s.kept)
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

// keepInput begins to keep copies of the primary's input, and has live traffic wait for
// them should the standby run.
func (b *backup) keepInput() {
	if b.hello.InputNICs == 0 {
		return
	}
	k, err := input.NewKeeper(input.Config{
		Name: b.hello.Domain, Listen: hostOf(b.conn.LocalAddr()), From: hostOf(b.conn.RemoteAddr()), NICs: b.hello.InputNICs,
	})
	if err != nil {
		b.log.Warn("no copies of the guest's input are kept", "err", err)
		return
	}
	b.keeper = k
	var taps []input.Tap
	for _, n := range b.standby.NICs {
		t := input.Tap{Name: n.Tap, MAC: n.MAC}
		if n.Filtered {
			t.MAC = "" // what libvirt's filters would keep from the guest is not to be heard
		}
		taps = append(taps, t)
	}
	if err := k.Attend(taps); err != nil {
		b.log.Warn("after a failover, live traffic may overtake the copies of the guest's input", "err", err)
	}
}

func (b *backup) inputPorts() [][]uint16 {
	if b.keeper == nil {
		return nil
	}
	return b.keeper.Ports()
}

// committed is what the primary is told with a commit.
func (b *backup) committed(epoch uint64) wire.Committed {
	c := wire.Committed{Epoch: epoch}
	if b.keeper == nil {
		return c
	}
	s := b.keeper.Stats()
	c.Kept, c.Dropped, c.Missing = s.Kept, s.Dropped, s.Missing
	if c.Dropped > 0 && !b.inputFull {
		b.inputFull = true
		b.log.Warn("more input than there is room for: the oldest copies are dropped, and would be lost in a failover", "kept", c.Kept)
	}
	return c
}

// deliverInput gives the guest that is being restored its input once it is running; done
// is closed when live traffic flows. It ends with ctx.
func (b *backup) deliverInput(ctx context.Context, running <-chan struct{}) (done chan struct{}) {
	done = make(chan struct{})
	if b.keeper == nil {
		close(done)
		return done
	}
	b.agent.background.Go(func() {
		defer close(done)
		err := b.keeper.Deliver(ctx, running)
		s := b.keeper.Stats()
		if err != nil {
			b.log.Warn("the guest did not get all of its input", "lost", s.Undelivered, "err", err)
		}
		b.log.Info("input delivered", "copies", s.Replayed, "live", s.Heard, "dropped", s.Dropped, "missing", s.Missing)
		b.agent.mu.Lock()
		b.agent.delivered[b.hello.Domain] = s
		b.agent.mu.Unlock()
		b.closeKeeper()
	})
	return done
}

func (b *backup) closeKeeper() {
	if b.keeper == nil {
		return
	}
	if err := b.keeper.Close(); err != nil {
		b.log.Warn("the input handler was not removed cleanly", "err", err)
	}
}

// clearInput removes what the input handler left on the taps of a guest that is not
// protected any more.
func (p *primary) clearInput(ctx context.Context) {
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
