package agent

import (
	"context"
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
		b.tellDelivered(b.keeper.Deliver(ctx, running))
		late, stop := context.WithTimeout(ctx, lateFor)
		defer stop()
		if err := b.keeper.Late(late); err != nil && late.Err() == nil {
			b.log.Warn("the guest may not have got the last of its input", "err", err)
		}
		b.tellDelivered(nil)
		b.closeKeeper()
	})
	return done
}

// lateFor is for how long after a guest's restore copies of its input may still come: longer
// than it takes to be announced on the network.
const lateFor = 300 * time.Millisecond

func (b *backup) tellDelivered(err error) {
	s := b.keeper.Stats()
	if err != nil {
		b.log.Warn("the guest did not get all of its input", "lost", s.Undelivered, "err", err)
	}
	b.log.Info("input delivered", "copies", s.Replayed, "live", s.Heard, "dropped", s.Dropped, "missing", s.Missing)
	b.agent.mu.Lock()
	defer b.agent.mu.Unlock()
	b.agent.delivered[b.hello.Domain] = s
}

func (b *backup) closeKeeper() {
	if b.keeper == nil {
		return
	}
	if err := b.keeper.Close(); err != nil {
		b.log.Warn("the input handler was not removed cleanly", "err", err)
	}
}
