package input

import (
	"context"
	"testing"
)

// TestLate: copies that come when the guest runs reach it, but for what it gets live as well.
func TestLate(t *testing.T) {
	l, k := lateLab(t)
	p, b := l.primary.guests[0], l.backup.guests[0]
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- k.Late(ctx) }()
	l.primary.write(frame(broadcast, etherTest, 1, 60))
	l.primary.write(frame(group, etherTest, 2, 60))
	l.primary.send(p, 3)
	b.wantSeqs(t, 3)
	stop()
	must(t, <-ended)
	l.primary.send(p, 4)
	if got := b.tryReceive(); got != nil || k.Stats().Replayed != 1 || k.Stats().LeftOut != 2 {
		t.Errorf("after the end the guest got % .40x; %+v", got, k.Stats())
	}
}

// TestLateEnd: what has come when the time is over the guest gets all the same.
func TestLateEnd(t *testing.T) {
	l, k := lateLab(t)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	l.primary.send(l.primary.guests[0], 1, 2)
	l.primary.write(frame(broadcast, etherTest, 3, 60))
	must(t, k.Late(ctx))
	l.backup.guests[0].wantSeqs(t, 1, 2)
	if s := k.Stats(); s.Replayed != 2 || s.LeftOut != 1 || s.Undelivered != 0 || s.Kept != 0 {
		t.Errorf("%+v", s)
	}
}

// TestLateIsCounted: each late copy is in one counter, of a guest that does not read, too.
func TestLateIsCounted(t *testing.T) {
	l, k := lateLab(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Late(ctx) }()
	g := l.primary.guests[0]
	l.primary.send(g, counting(1, 1500)...) // the queue has room for 1000
	l.backup.enter()
	await(t, "the guest's queue is not full", func(uint32) bool {
		return byName(t, l.backup.guests[0].name).Attrs().Statistics.TxDropped > 0
	})
	l.primary.send(g, counting(1501, 1510)...) // while it waits for the guest
	l.primary.write(frame(group, etherTest, 1511, 60))
	stop()
	if err := within(t, "Late does not end", ended); err == nil {
		t.Error("no error")
	}
	if s := k.Stats(); s.Replayed < 500 || s.Undelivered < 10 || s.Replayed+s.Undelivered != 1510 || s.LeftOut != 1 || s.Kept != 0 {
		t.Errorf("%+v", s)
	}
}

// TestLateToNobody: of a guest whose tap could not be attended nothing goes uncounted.
func TestLateToNobody(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	l.primary.send(l.primary.guests[0], 1)
	must(t, k.Late(t.Context()))
	if s := k.Stats(); s.Undelivered != 1 {
		t.Errorf("%+v", s)
	}
}

// lateLab is after a delivery: live traffic flows.
func lateLab(t *testing.T) (*lab, *Keeper) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	l.standby(k)
	l.tapsUp()
	must(t, l.deliver(k, patience)())
	return l, k
}
