package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/storage/wire"
)

// The input handler at the backup: copies are kept, and given to the guest if it is
// restored here.

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

// lateFor is for how long after live traffic flows copies of the guest's input may still
// come: the network has had the third announcement of the guest (domain.Announce) by then.
const lateFor = 300 * time.Millisecond

// deliverInput gives the guest that is being restored its input once it is running; done
// is closed when no more copies come. It ends with ctx.
func (b *backup) deliverInput(ctx context.Context, running <-chan struct{}) (done chan struct{}) {
	done = make(chan struct{})
	if b.keeper == nil {
		close(done)
		return done
	}
	b.agent.background.Go(func() {
		defer close(done)
		defer b.closeKeeper()
		err := b.keeper.Deliver(ctx, running)
		late, stop := context.WithTimeout(ctx, lateFor)
		defer stop()
		b.tellDelivered(errors.Join(err, b.keeper.Late(late)))
	})
	return done
}

func (b *backup) tellDelivered(err error) {
	a, s := b.agent, b.keeper.Stats()
	if err != nil || s.Undelivered > 0 {
		b.log.Warn("the guest did not get all of its input", "lost", s.Undelivered, "err", err)
	}
	b.log.Info("input delivered", "copies", s.Replayed, "live", s.Heard, "dropped", s.Dropped, "missing", s.Missing)
	if _, protected := a.cluster.State().Protections[b.hello.Domain]; !protected {
		return // any more
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delivered[b.hello.Domain] = s
}

func (b *backup) closeKeeper() {
	if b.keeper == nil {
		return
	}
	if err := b.keeper.Close(); err != nil {
		b.log.Warn("the input handler was not removed cleanly", "err", err)
	}
}
