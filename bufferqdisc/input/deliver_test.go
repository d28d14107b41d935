package input

import (
	"bytes"
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// deliver starts to deliver; the function returned waits for its end.
func (l *lab) deliver(k *Keeper, limit time.Duration) (wait func() error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), limit)
	ended := make(chan error, 1)
	running := make(chan struct{})
	close(running)
	go func() {
		defer cancel()
		ended <- k.Deliver(ctx, running)
	}()
	return func() error { return <-ended }
}

func counting(from, to uint32) (seqs []uint32) {
	for s := from; s <= to; s++ {
		seqs = append(seqs, s)
	}
	return seqs
}

// once leaves out repetitions: a packet that comes in the instant of the change from the
// ports to the tap may be heard at both.
func once(frames [][]byte) (seqs []uint32) {
	for _, s := range seqsOf(frames) {
		if !slices.Contains(seqs, s) {
			seqs = append(seqs, s)
		}
	}
	return seqs
}

// TestCopiesThenLiveWindowThenLive is a failover: what the dead primary's guest had not in
// its last checkpoint, what its switch flooded since, what comes while the standby is being
// restored, and what comes then, reach the guest in this order.
func TestCopiesThenLiveWindowThenLive(t *testing.T) {
	l := newLab(t, 2, false)
	m, k := l.protect(Config{})
	pg, bg := l.primary.guests, l.backup.guests
	for i := range bg {
		l.backup.learnsOutside(pg[i])
	}
	l.standby(k)
	l.primary.send(pg[0], 1, 2)
	pg[0].wantSeqs(t, 1, 2)
	taken, err := m.Taken()
	must(t, err)
	l.primary.send(pg[0], 3, 4, 5) // in no checkpoint
	l.primary.send(pg[1], 101, 102)
	pg[0].wantSeqs(t, 3)
	k.Forget(taken)

	l.backup.send(bg[0], 6, 7)
	l.backup.send(bg[1], 103)
	wait := l.deliver(k, patience)
	l.tapsUp()
	l.backup.send(bg[0], 8)
	must(t, wait())
	l.backup.send(bg[0], 9)
	bg[1].wantSeqs(t, 101, 102, 103)
	got, err := bg[0].receiveUntil(9)
	must(t, err)
	if seqs := once(got); !slices.Equal(seqs, counting(3, 9)) {
		t.Errorf("the guest got %v", seqs)
	}
	if s := k.Stats(); s.Replayed != 5 || s.Heard < 3 || s.Undelivered != 0 {
		t.Errorf("%+v", s)
	}
}

// TestLiveWaits: live traffic that comes while the copies are being delivered to a guest
// that is slow does not overtake them, and none of it is lost.
func TestLiveWaits(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	l.standby(k)
	pg, bg := l.primary.guests[0], l.backup.guests[0]
	const copies = 2500 // the tap's queue has room for 1000
	for s := range uint32(copies) {
		l.primary.send(pg, s)
		pg.receive(1)
	}
	l.tapsUp()
	wait := l.deliver(k, time.Minute)
	var got [][]byte
	live := uint32(copies)
	for range 500 {
		l.backup.send(bg, live)
		live++
		for range 3 {
			if p := bg.tryReceive(); p != nil {
				got = append(got, p)
			}
		}
	}
	rest, err := bg.receiveUntil(live - 1)
	must(t, err)
	got = append(got, rest...)
	must(t, wait())
	if seqs := once(got); !slices.Equal(seqs, counting(0, live-1)) {
		for i, s := range seqs {
			if i > 0 && s != seqs[i-1]+1 {
				t.Errorf("%d after %d", s, seqs[i-1])
			}
		}
	}
}

// TestGuestThatDoesNotRead: the delivery ends with its time, what did not fit is counted,
// and live traffic flows.
func TestGuestThatDoesNotRead(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	l.standby(k)
	pg, bg := l.primary.guests[0], l.backup.guests[0]
	for s := range uint32(1500) {
		l.primary.send(pg, s)
		pg.receive(1)
	}
	l.tapsUp()
	if err := l.deliver(k, time.Second)(); err == nil {
		t.Error("no error")
	}
	s := k.Stats()
	if s.Replayed == 0 || s.Undelivered == 0 || s.Replayed+s.Undelivered != 1500 {
		t.Errorf("%+v", s)
	}
	bg.wantSeqs(t, counting(0, uint32(s.Replayed)-1)...)
	l.backup.send(bg, 2000)
	bg.wantSeqs(t, 2000)
}

// TestStandbyThatNeverRuns: its tap stays down, and nothing is left of the keeper.
func TestStandbyThatNeverRuns(t *testing.T) {
	l := newLab(t, 1, false)
	before := l.backup.traces()
	_, k := l.protect(Config{})
	l.standby(k)
	l.primary.send(l.primary.guests[0], 1)
	if err := l.deliver(k, 20*time.Millisecond)(); err == nil {
		t.Error("no error")
	}
	must(t, k.Close())
	l.backup.wantTraces(before)
	l.tapsUp()
	l.backup.send(l.backup.guests[0], 2)
	l.backup.guests[0].wantSeqs(t, 2)
}

// TestStandbyThatIsEnded: its taps are gone before the keeper hears of it, and that is no error.
func TestStandbyThatIsEnded(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	l.standby(k)
	l.backup.enter()
	tap, err := netlink.LinkByName(l.backup.guests[0].name)
	must(t, err)
	must(t, netlink.LinkDel(tap))
	must(t, k.Close())
}

// TestHeardIsForgotten: what was flooded before the last checkpoint but one is not kept,
// and what is not for the guest never.
func TestHeardIsForgotten(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	l.standby(k)
	bg := l.backup.guests[0]
	other := &guest{mac: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x99}}
	for s := range uint32(4) {
		l.backup.enter()
		l.backup.send(other, 100+s)
		l.backup.send(bg, s)
		await(t, "nothing was heard", func(uint32) bool {
			drain(k.lanes[0].ears[0].raw, k.lanes[0].readHeard)
			return k.lanes[0].heard.newest == uint64(s+1)
		})
		if s < 3 {
			k.Forget([]uint64{0})
		}
	}
	l.tapsUp()
	wait := l.deliver(k, patience)
	bg.wantSeqs(t, 2, 3)
	must(t, wait())
	if p := bg.tryReceive(); p != nil {
		t.Errorf("also got % x", p)
	}
}

// TestBridgesThatAreNotListenedTo: those on which the handler would hear what the guest
// would not.
func TestBridgesThatAreNotListenedTo(t *testing.T) {
	for name, set := range map[string]func(tap netlink.Link) error{
		"told addresses": func(tap netlink.Link) error { return netlink.LinkSetLearning(tap, false) },
		"no flooding":    func(tap netlink.Link) error { return netlink.LinkSetFlood(tap, false) },
		"isolated":       func(tap netlink.Link) error { return netlink.LinkSetIsolated(tap, true) },
		"no bridge":      func(tap netlink.Link) error { return netlink.LinkSetNoMaster(tap) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, false)
			k := l.keep(Config{})
			l.backup.enter()
			must(t, set(byName(t, "g0")))
			l.standby(k)
			if len(k.lanes[0].ears) > 0 {
				t.Error("it is listened to")
			}
			l.tapsUp()
			must(t, l.deliver(k, patience)())
		})
	}
}

// TestBridgesWithVLANs: few kernels of test machines have any.
func TestBridgesWithVLANs(t *testing.T) {
	yes, no := true, false
	for want, b := range map[bool]*netlink.Bridge{true: {VlanFiltering: &yes}, false: {VlanFiltering: &no}} {
		if knowsVLANs(b) != want || knowsVLANs(&netlink.Bridge{}) {
			t.Errorf("VLANs %v are not seen", want)
		}
	}
}

// learnsOutside has the bridge see that the guest is behind the port to the outside, and
// hear what it says to all.
func (h *host) learnsOutside(g *guest) {
	p := frame(broadcast, etherTest, 1<<30, 60)
	copy(p[vnetHeader+6:], g.mac)
	h.write(p)
}

// TestOffloadsAreHeard: what has no checksum yet, or is larger than packets are, is
// delivered as it was.
func TestOffloadsAreHeard(t *testing.T) {
	l := newLab(t, 1, false)
	k := l.keep(Config{})
	l.standby(k)
	bg := l.backup.guests[0]
	large := ipFrame(bg, false, unix.IPPROTO_TCP, bytes.Repeat([]byte("octets"), 5000), 1400, true)
	small := ipFrame(bg, true, unix.IPPROTO_UDP, []byte("octets"), 0, true)
	l.backup.write(large)
	l.backup.write(small)
	l.tapsUp()
	must(t, l.deliver(k, patience)())
	for _, want := range [][]byte{large, small} {
		if got := bg.await(t); !bytes.Equal(got[:vnetHeader-2], want[:vnetHeader-2]) || !bytes.Equal(got[vnetHeader:], want[vnetHeader:]) {
			t.Errorf("% .80x came as % .80x", want, got)
		}
	}
}
