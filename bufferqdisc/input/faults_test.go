package input

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/inject"
	"github.com/vishvananda/netlink"
)

// eachFault plays with each call broken, in each way, until none was. What comes back is an
// error, or nil with none broken.
func eachFault(t *testing.T, play func(l *lab, f *faults) error) {
	for name, way := range inject.Ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is the kernel's for removing devices
			l := newLab(t, 1, false)
			for at := 1; !t.Failed(); at++ {
				f := &faults{way}
				f.At = at
				err := play(l, f)
				if f.Failed == "" {
					must(t, err)
					t.Logf("%d calls", at-1)
					return
				}
				if !errors.Is(err, inject.Err) {
					t.Errorf("call %d, %s: %v", at, f.Failed, err)
				}
			}
		})
	}
}

// TestEveryNetlinkCallFails breaks one call after the other of a failover, until there is
// no call left that could break: an error each time, both guests have their network, each
// packet once and in order, and nothing is left behind.
func TestEveryNetlinkCallFails(t *testing.T) {
	eachFault(t, func(l *lab, f *faults) error {
		p, b := l.primary.traces(), l.backup.traces()
		err := l.lifeWith(f)
		l.wantReached(f, "closed", 4)
		for _, h := range []*host{l.primary, l.backup} {
			h.enter()
			err = errors.Join(err, clearTaps(f.dial, h.taps()))
			l.clearAfter(f, h)
		}
		l.wantReached(f, "cleared", 5)
		l.wantNothingLeft(f, l.backup, b)
		l.wantNothingLeft(f, l.primary, p)
		return err
	})
}

// TestEveryNetlinkCallOfACutFails: one that could not says so, and can be made again; the
// guest is reached after Clear, and not before.
func TestEveryNetlinkCallOfACutFails(t *testing.T) {
	eachFault(t, func(l *lab, f *faults) error {
		before := l.primary.traces()
		err := cutTaps(f.dial, l.primary.taps())
		if err != nil {
			must(l.t, Cut(l.primary.taps()))
		}
		l.primary.send(l.primary.guests[0], 1)
		l.clearAfter(f, l.primary)
		l.primary.send(l.primary.guests[0], 2)
		l.primary.guests[0].wantSeqs(l.t, 2)
		l.wantNothingLeft(f, l.primary, before)
		return err
	})
}

// lifeWith is all that the handler does for a guest, as far as it comes, and its end.
func (l *lab) lifeWith(f *faults) (err error) {
	pg, bg := l.primary.guests[0], l.backup.guests[0]
	step := func(h *host, what func() error) {
		h.enter()
		err = errors.Join(err, what())
	}
	var k *Keeper
	var m *Mirror
	step(l.backup, func() (err error) {
		k, err = NewKeeper(Config{Name: "guest", Listen: l.backup.addr, From: l.primary.addr, NICs: 1, dial: f.dial})
		return err
	})
	if k != nil {
		l.backup.enter()
		must(l.t, netlink.LinkSetDown(byName(l.t, bg.name)))
		step(l.backup, func() error { return k.Attend([]Tap{{Name: bg.name, MAC: bg.mac.String()}}) })
		step(l.primary, func() (err error) {
			m, err = NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports(), dial: f.dial})
			return err
		})
	}
	if m != nil {
		step(l.primary, func() error { return l.copyWith(f, m) })
	} else {
		l.primary.send(pg, 1, 2, 3)
	}
	if k != nil {
		l.tapsUp()
		wait := l.deliver(k, patience)
		step(l.backup, wait)
		step(l.backup, k.Close)
	}
	return err
}

// copyWith is the life of a Mirror. What comes in a pause waits until its end, and no longer,
// whatever failed.
func (l *lab) copyWith(f *faults, m *Mirror) error {
	g := l.primary.guests[0]
	taken := func() error { _, err := m.Taken(); return err }
	started := errors.Join(m.Count(), m.Look(), m.Start())
	l.primary.send(g, 1)
	got, _ := g.receive(1)
	err := errors.Join(started, taken(), m.Pause(time.Minute))
	l.primary.send(g, 2)
	early := g.tryReceive()
	err = errors.Join(err, taken(), m.Look())
	m.Resume()
	l.primary.send(g, 3)
	if early == nil {
		next, _ := g.receive(1)
		got = append(got, next...)
	} else if got = append(got, early); m.sources[0].account != nil {
		l.t.Errorf("call %d, %s: a packet did not wait", f.At, f.Failed)
	}
	next, _ := g.receive(1)
	if got := seqsOf(append(got, next...)); !slices.Equal(got, []uint32{1, 2, 3}) {
		l.t.Errorf("call %d, %s: in and after a pause the guest got %v", f.At, f.Failed, got)
	}
	return errors.Join(err, m.Close())
}

// wantReached: both guests get a packet, after those from before in their order.
func (l *lab) wantReached(f *faults, when string, seq uint32) {
	l.t.Helper()
	for _, h := range []*host{l.primary, l.backup} {
		h.send(h.guests[0], seq)
		got, err := h.guests[0].receiveUntil(seq)
		if err != nil || !slices.IsSorted(seqsOf(got)) {
			l.t.Errorf("call %d, %s: %s, the guest got %v: %v", f.At, f.Failed, when, seqsOf(got), err)
		}
	}
}

// clearAfter clears as a later process does that nothing fails for.
func (l *lab) clearAfter(f *faults, h *host) {
	l.t.Helper()
	h.enter()
	must(l.t, Clear(h.taps()))
	if f.On { // an empty clsact, which nobody could take away again, does no harm
		for _, name := range h.taps() {
			netlink.QdiscDel(clsact(byName(l.t, name)))
		}
	}
}

// wantNothingLeft leaves the test's thread at the host.
func (l *lab) wantNothingLeft(f *faults, h *host, before string) {
	l.t.Helper()
	if after := h.traces(); after != before {
		l.t.Errorf("call %d, %s: left:\n%s\nwas\n%s", f.At, f.Failed, after, before)
	}
}

func clsact(l netlink.Link) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}
