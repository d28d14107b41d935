package bufferqdisc

import (
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
				l.send(l.guests[0], n)
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
	must(t, g.Extend(inAnHour()))
	must(t, g.Extend(inAnHour())) // what was on its way to wait
	look()
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
	s := g.Stats()
	if late := s.Dropped - 5; s.Open || s.HeldPackets == 0 || uint64(len(got))+s.HeldPackets+late != most || late > 64 {
		t.Errorf("%d came in time, and %+v", len(got), s)
	}
	for i := 0; g.Stats().HeldPackets > 0; i++ {
		if i > 20 {
			t.Fatalf("%+v", g.Stats())
		}
		must(t, g.Extend(inAnHour()))
		more, err := l.arrived()
		must(t, err)
		got = append(got, more...)
	}
	for i, p := range got {
		if n := seqOf(p); n != uint32(i) && s.Dropped == 5 {
			t.Fatalf("packet %d is %d", i, n)
		}
	}
	l.send(l.guests[0], 7)
	must(t, l.wantSeqs(7))
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

// TestGateWithoutItsDevice: somebody removed what packets wait in. It keeps its deadlines.
func TestGateWithoutItsDevice(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, time.Time{})
	all, err := netlink.LinkList()
	must(t, err)
	for _, link := range all {
		if strings.HasPrefix(link.Attrs().Name, "hg") {
			must(t, netlink.LinkDel(link))
		}
	}
	l.send(l.guests[0], 1)
	must(t, l.wantSeqs())
	must(t, g.Extend(inAnHour()))
	l.send(l.guests[0], 2)
	must(t, l.wantSeqs(2))
	must(t, g.Close())
	l.send(l.guests[0], 3)
	must(t, l.wantSeqs(3))
}
