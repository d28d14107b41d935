package bufferqdisc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

// TestLateLeaseLosesNothing: the gate closes and opens while the guest sends without a
// pause, and all of it arrives, in order.
func TestLateLeaseLosesNothing(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, time.Time{})
	end, ended := make(chan struct{}), make(chan uint32)
	go func() {
		for n := uint32(1); ; n++ {
			select {
			case <-end:
				ended <- n - 1
				return
			case <-time.After(20 * time.Microsecond):
				unix.Write(l.guests[0].fd, frame(l.guests[0].mac, clientMAC, etherTest, n, 60)) // one that fails is missing
			}
		}
	}()
	last, overtaken, waited := uint32(0), 0, uint64(0)
	missing := map[uint32]bool{}
	look := func() {
		got, err := l.arrived()
		must(t, err)
		for _, p := range got {
			n := seqOf(p)
			if missing[n] {
				delete(missing, n)
				overtaken++
				continue
			}
			if n <= last {
				t.Fatalf("%d twice", n)
			}
			for m := last + 1; m < n; m++ {
				missing[m] = true
			}
			last = n
		}
	}
	for range 200 {
		must(t, g.Extend(time.Now().Add(time.Millisecond)))
		for g.Stats().Open {
			look()
		}
		for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
			look()
		}
		waited = max(waited, g.Stats().HeldPackets)
	}
	close(end)
	sent := <-ended
	letAllGo(t, g, look)
	t.Logf("%d sent, up to %d have waited, %d overtaken", sent, waited, overtaken)
	if last != sent || len(missing) > 0 || waited == 0 {
		t.Errorf("up to %d of %d came, but for %d", last, sent, len(missing))
	}
	if overtaken > 50 {
		t.Error("overtaken more often than now and then")
	}
	if s := g.Stats(); s != (GateStats{Open: true}) {
		t.Errorf("%+v", s)
	}
}

// TestGateIsFull: what there is no room for is dropped and counted, and what was there
// first is let go, by several extensions, whose deadlines hold meanwhile.
func TestGateIsFull(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, time.Time{})
	const most = tapdev.MaxPackets
	for n := range uint32(most + 5) {
		l.send(l.guests[0], n)
	}
	if s := g.Stats(); s != (GateStats{HeldPackets: most, HeldBytes: 60 * most, Dropped: 5, DroppedBytes: 300}) {
		t.Errorf("%+v", s)
	}
	must(t, g.Extend(time.Now().Add(500*time.Microsecond)))
	got, err := l.arrived()
	must(t, err)
	if s := g.Stats(); s.Open || s.HeldPackets == 0 || s.Dropped != 5 || uint64(len(got))+s.HeldPackets != most {
		t.Errorf("%d came in time, and %+v", len(got), s)
	}
	letAllGo(t, g, func() {
		more, err := l.arrived()
		must(t, err)
		got = append(got, more...)
	})
	seen, late := map[uint32]bool{}, 0
	for i, p := range got {
		n := seqOf(p)
		if seen[n] || n >= most {
			t.Fatalf("packet %d is %d", i, n)
		}
		if seen[n] = true; i > 0 && n < seqOf(got[i-1]) {
			late++ // handed back in time, and at the gate too late
		}
	}
	if len(got) != most || late > 20 {
		t.Errorf("%d of %d came, %d out of order", len(got), most, late)
	}
	l.send(l.guests[0], 7)
	must(t, l.wantSeqs(7))
	if s := g.Stats(); s != (GateStats{Open: true, Dropped: 5, DroppedBytes: 300}) {
		t.Errorf("%+v", s)
	}
}

// TestGateDrops what waits on the word of its owner: none of it leaves any more.
func TestGateDrops(t *testing.T) {
	l := newLab(t, 2)
	g := newGate(t, l, time.Time{})
	l.send(l.guests[0], 1, 2)
	l.send(l.guests[1], 3)
	g.Drop()
	if s := g.Stats(); s != (GateStats{Dropped: 3, DroppedBytes: 180}) {
		t.Errorf("%+v", s)
	}
	must(t, g.Extend(inAnHour()))
	g.Drop() // closes it, too
	l.send(l.guests[0], 4)
	must(t, l.wantSeqs())
	must(t, g.Extend(inAnHour()))
	l.send(l.guests[1], 5)
	must(t, l.wantSeqs(4, 5))
	g.Abandon()
	g.Drop()
}

// TestGateIsAbandonedWhileItOpens: from then on nothing comes any more.
func TestGateIsAbandonedWhileItOpens(t *testing.T) {
	l := newLab(t, 1)
	for i := range 20 {
		g := newGate(t, l, time.Time{})
		for n := range uint32(400) {
			l.send(l.guests[0], n)
		}
		extended := make(chan error, 1)
		go func() { extended <- g.Extend(inAnHour()) }()
		_, err := l.await(20 * i) // before it sends, and while it does
		must(t, err)
		g.Abandon()
		_, err = l.arrived() // what had left
		must(t, err)
		l.send(l.guests[0], 1)
		must(t, l.wantSeqs())
		if err := <-extended; err != nil && !errors.Is(err, ErrCut) {
			t.Error(err)
		}
	}
}

// letAllGo extends until nothing waits, and then twice: a packet that was on its way to wait
// is found the next time, and one that is lost is known the time after that.
func letAllGo(t *testing.T, g *Gate, look func()) {
	t.Helper()
	for left, turns := g.Stats().HeldPackets, 0; turns < 3; turns++ {
		must(t, g.Extend(inAnHour()))
		look()
		if now := g.Stats().HeldPackets; now < left {
			left, turns = now, 0
		}
	}
	if s := g.Stats(); s.HeldPackets > 0 {
		t.Fatalf("still there: %+v", s)
	}
}

// TestGateHoldsLargePacketsWhole, with their offloads.
func TestGateHoldsLargePacketsWhole(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, time.Time{})
	large := ipFrame(l.guests[0], false, unix.IPPROTO_TCP, make([]byte, 30000), 1400, true)
	l.write(l.guests[0], large)
	must(t, l.wantSeqs())
	must(t, g.Extend(inAnHour()))
	got, err := l.arrived()
	must(t, err)
	if len(got) != 1 || string(got[0]) != string(large) {
		t.Errorf("%d came, not as they were", len(got))
	}
}

// TestGateMendsItsDevice: somebody set it down; what came meanwhile is lost and counted.
func TestGateMendsItsDevice(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, time.Time{})
	must(t, netlink.LinkSetDown(waitDevices(t)[0]))
	l.send(l.guests[0], 1)
	letAllGo(t, g, func() {})
	must(t, g.Extend(time.Time{}))
	l.send(l.guests[0], 2)
	must(t, l.wantSeqs())
	must(t, g.Extend(inAnHour()))
	must(t, l.wantSeqs(2))
	if s := g.Stats(); s != (GateStats{Open: true, Dropped: 1, DroppedBytes: 60}) {
		t.Errorf("%+v", s)
	}
}

// waitDevices are those of all gates.
func waitDevices(t *testing.T) (found []netlink.Link) {
	all, err := netlink.LinkList()
	must(t, err)
	for _, link := range all {
		if strings.HasPrefix(link.Attrs().Name, "hg") {
			found = append(found, link)
		}
	}
	return found
}

// TestGateWithoutItsDevice: somebody removed what packets wait in. It keeps its deadlines.
func TestGateWithoutItsDevice(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, time.Time{})
	must(t, netlink.LinkDel(waitDevices(t)[0]))
	l.send(l.guests[0], 1)
	must(t, l.wantSeqs())
	letAllGo(t, g, func() {})
	if s := g.Stats(); s != (GateStats{Open: true, Dropped: 1, DroppedBytes: 60}) {
		t.Errorf("%+v", s)
	}
	l.send(l.guests[0], 2)
	must(t, l.wantSeqs(2))
	must(t, g.Close())
	l.send(l.guests[0], 3)
	must(t, l.wantSeqs(3))
}
