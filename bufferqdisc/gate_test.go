package bufferqdisc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func newGate(t *testing.T, l *lab, until time.Time) *Gate {
	t.Helper()
	g, err := NewGate("guest", l.taps(), until)
	must(t, err)
	t.Cleanup(g.Abandon)
	return g
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

func TestGate(t *testing.T) {
	l := newLab(t, 2)
	before := l.traces()
	g := newGate(t, l, time.Time{})
	send := func(seqs ...uint32) {
		l.send(l.guests[0], seqs[0])
		l.send(l.guests[1], seqs[1:]...)
	}
	send(1, 2)
	must(t, l.wantSeqs())
	if s := g.Stats(); s != (GateStats{HeldPackets: 2, HeldBytes: 120}) {
		t.Errorf("%+v", s)
	}
	must(t, g.Extend(inAnHour()))
	send(3, 4)
	must(t, l.wantSeqs(1, 2, 3, 4))
	if s := g.Stats(); s != (GateStats{Open: true}) {
		t.Errorf("%+v", s)
	}
	for _, past := range []time.Time{{}, time.Now().Add(-time.Hour), time.Now().Add(-1000 * time.Hour)} {
		must(t, g.Extend(past))
		send(5, 6)
		must(t, l.wantSeqs())
		if g.Stats().Open {
			t.Errorf("%v: open", past)
		}
		must(t, g.Extend(inAnHour()))
		must(t, l.wantSeqs(5, 6))
	}
	if err := g.Extend(time.Now().Round(0).Add(time.Hour)); !errors.Is(err, ErrWallClock) {
		t.Errorf("a wall clock's time: %v", err)
	}
	must(t, g.Extend(time.Time{}))
	send(7, 8)
	must(t, l.wantSeqs())
	must(t, g.Close())
	must(t, g.Close())
	g.Abandon()
	if err := g.Extend(inAnHour()); !errors.Is(err, ErrClosed) {
		t.Errorf("Extend after Close: %v", err)
	}
	send(9, 10)
	must(t, l.wantSeqs(7, 8, 9, 10))
	l.wantTraces(before)
}

// TestClosedGateHoldsEveryProtocol, and lets it go as it was.
func TestClosedGateHoldsEveryProtocol(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, inAnHour())
	frames, names := everyProtocol(l.guests[0])
	send := func() {
		for _, p := range frames {
			l.write(l.guests[0], p)
		}
	}
	send()
	if got, err := l.arrived(); err != nil || len(got) != len(frames) {
		t.Fatalf("open: %d of %d, %v", len(got), len(frames), err)
	}
	must(t, g.Extend(time.Time{}))
	send()
	if got, err := l.arrived(); err != nil || len(got) != 0 {
		t.Fatalf("closed: %d, %v", len(got), err)
	}
	in := frame(clientMAC, l.guests[0].mac, etherTest, 7, 900)
	_, err := unix.Write(l.out, in)
	must(t, err)
	_, err = l.receive(l.guests[0])
	must(t, err)
	must(t, g.Extend(inAnHour()))
	got, err := l.arrived()
	must(t, err)
	if len(got) != len(names) {
		t.Fatalf("%d of %d were held", len(got), len(names))
	}
	for i, p := range got {
		if !bytes.Contains(p, []byte(names[i])) {
			t.Errorf("frame %d is not %s", i, names[i])
		}
	}
}

// wantClosedFrom sends all the time and fails when anything arrives that was sent at
// the time or later. It says how many were sent before, and arrived; -1: the machine stood
// still until then, and none was sent before.
func (l *lab) wantClosedFrom(at time.Time) (open int) {
	l.t.Helper()
	open = -1
	for last := false; !last; {
		now := time.Now()
		last = !now.Before(at)
		l.send(l.guests[0], 1)
		if time.Now().Before(at) {
			open = max(open, 0)
		}
		got, err := l.arrived()
		must(l.t, err)
		if last && len(got) > 0 {
			l.t.Fatalf("a packet passed %v after the deadline", now.Sub(at))
		}
		if len(got) > 0 {
			open = max(open, 0) + len(got)
		}
	}
	return open
}

func TestGateClosesByItself(t *testing.T) {
	l := newLab(t, 1)
	g := newGate(t, l, time.Time{})
	for range 5 {
		g.Drop() // what came too late the last time
		until := time.Now().Add(30 * time.Millisecond)
		must(t, g.Extend(until))
		if l.wantClosedFrom(until) == 0 {
			t.Error("it was never open")
		}
	}
}

// childLease is longer than a busy machine keeps a process waiting.
const childLease = time.Second

// gateChild has a gate that it extends all the time.
func gateChild(taps []string) error {
	g, err := NewGate("child", taps, time.Now().Add(childLease))
	if err != nil {
		return err
	}
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			g.Extend(time.Now().Add(childLease))
		}
	}()
	return nil
}

func TestGateClosesWhenItsOwnerIsStoppedOrKilled(t *testing.T) {
	l := newLab(t, 1)
	before := l.traces()
	child := startChild(t, l, "gate", "")
	owner := child.Process
	for range 3 {
		must(t, owner.Signal(syscall.SIGSTOP))
		_, err := unix.Wait4(owner.Pid, nil, unix.WUNTRACED, nil) // all of its threads
		must(t, err)
		if l.wantClosedFrom(time.Now().Add(childLease)) == 0 {
			t.Error("it was never open")
		}
		must(t, owner.Signal(syscall.SIGCONT))
		for direct, deadline := 0, time.Now().Add(patience); direct < 10; { // its owner extends it again
			l.send(l.guests[0], 1)
			got, err := l.arrived()
			must(t, err)
			if direct++; len(got) != 1 { // it waits, or others did
				direct = 0
			}
			if time.Now().After(deadline) {
				t.Fatal("it does not open again")
			}
		}
	}
	child.End()
	if l.wantClosedFrom(time.Now().Add(childLease)) == 0 {
		t.Error("it was never open")
	}
	must(t, ClearBuffer(l.taps()))
	l.send(l.guests[0], 2)
	must(t, l.wantSeqs())
	must(t, Clear(l.taps()))
	l.send(l.guests[0], 3)
	must(t, l.wantSeqs(3))
	l.wantTraces(before)
}

func TestGateIsTakenOver(t *testing.T) {
	l := newLab(t, 1)
	before := l.traces()
	old := newGate(t, l, inAnHour())
	g := newGate(t, l, time.Time{})
	must(t, old.Extend(inAnHour())) // has no effect any more
	l.send(l.guests[0], 1)
	must(t, l.wantSeqs())
	must(t, g.Extend(inAnHour()))
	l.send(l.guests[0], 2)
	must(t, l.wantSeqs(1, 2))
	old.Abandon() // has none either
	must(t, g.Extend(time.Time{}))
	l.send(l.guests[0], 3)
	g.Abandon()
	if s := g.Stats(); s != (GateStats{Dropped: 1, DroppedBytes: 60}) {
		t.Errorf("%+v", s)
	}
	l.send(l.guests[0], 3)
	must(t, l.wantSeqs())
	if err := g.Extend(inAnHour()); !errors.Is(err, ErrCut) {
		t.Errorf("Extend after Abandon: %v", err)
	}
	must(t, g.Close()) // Abandon is final
	l.send(l.guests[0], 4)
	must(t, l.wantSeqs())
	must(t, Clear(append(l.taps(), "no-such-tap")))
	l.send(l.guests[0], 5)
	must(t, l.wantSeqs(5))
	l.wantTraces(before)
}

// TestHandover changes between gate and buffer while the guest sends without a pause:
// nothing passes but by the gate's time or a release.
func TestHandover(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 2)
		before := l.traces()
		g := newGate(t, l, time.Time{})
		b := setUp(t, l, backend, 0)
		stop := l.sendAlways()
		steps := []struct {
			name string
			do   func() error
		}{
			{"nothing", func() error { return nil }},
			{"hold", b.Hold},
			{"close the gate", g.Close},
			{"a closed gate", func() (err error) { g, err = NewGate("guest", l.taps(), time.Time{}); return err }},
			{"close the gate", func() error { return g.Close() }},
			{"another", func() (err error) { g, err = NewGate("guest", l.taps(), time.Time{}); return err }},
		}
		for _, s := range steps {
			must(t, s.do())
			if got, err := l.arrived(); err != nil || len(got) > 0 {
				t.Errorf("%s: %d arrived, %v", s.name, len(got), err)
			}
		}
		must(t, b.Open()) // what was held may go
		_, err := l.arrived()
		must(t, err)
		must(t, b.Teardown())
		_, err = l.arrived()
		must(t, err)
		if got, err := l.arrived(); err != nil || len(got) > 0 {
			t.Errorf("torn down behind a gate: %d arrived, %v", len(got), err)
		}
		stop()
		letAllGo(t, g, func() {
			_, err = l.arrived()
			must(t, err)
		})
		l.send(l.guests[0], 1)
		must(t, l.wantSeqs(1))
		must(t, g.Close())
		l.wantTraces(before)
	})
}

// sendAlways has all NICs send until stop, or until they have sent what the client's socket
// has room for: a marker that finds none would not arrive. In between they leave the
// processor to who is tested, which may have just one.
func (l *lab) sendAlways() (stop func()) {
	const burst, most = 20, 60_000
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for sent := 0; sent < most; sent += burst * len(l.guests) {
			began := time.Now()
			for range burst {
				for _, g := range l.guests {
					unix.Write(g.fd, frame(g.mac, clientMAC, etherTest, 0, 60))
				}
			}
			select {
			case <-end:
				return
			case <-time.After(3 * time.Since(began)):
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(end); <-ended })
	l.t.Cleanup(stop)
	return stop
}

// TestBufferBehindAGate: both in force, a packet has to pass both.
func TestBufferBehindAGate(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		newGate(t, l, inAnHour())
		b := setUp(t, l, backend, 0)
		must(t, checkOutputCommit(l, b))
		must(t, b.Abandon())
		l.send(l.guests[0], 9)
		must(t, l.wantSeqs())
		if _, err := Setup(Config{Taps: l.taps(), Backend: backend}); !errors.Is(err, ErrCut) {
			t.Errorf("Setup on a cut tap behind a gate: %v", err)
		}
		must(t, ClearBuffer(l.taps()))
		l.send(l.guests[0], 10)
		must(t, l.wantSeqs(10))
	})
}

func TestNoGateHere(t *testing.T) {
	l := newLab(t, 2)
	last := byName(t, l.guests[1].name)
	must(t, netlink.QdiscAdd(clsact(last)))
	userFilter(t, last, netlink.HANDLE_MIN_INGRESS)
	before := l.traces()
	for name, want := range map[string]error{l.guests[1].name: ErrInTheWay, "nowhere": nil, "o0": nil, "": nil} {
		g, err := NewGate("guest", []string{l.guests[0].name, name}, time.Time{})
		if g != nil || err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(err)
	}
	l.wantTraces(before)
	l.send(l.guests[0], 1)
	must(t, l.wantSeqs(1))
}

func TestTapWithAGateVanishes(t *testing.T) {
	l := newLab(t, 2)
	g := newGate(t, l, time.Time{})
	must(t, netlink.LinkDel(byName(t, l.guests[0].name)))
	must(t, g.Extend(inAnHour()))
	l.send(l.guests[1], 1)
	must(t, l.wantSeqs(1))
	must(t, g.Close())
	must(t, Clear(l.taps()))
	if s := fmt.Sprint(g.Stats()); s != "{false 0 0 0 0}" {
		t.Error(s)
	}
}
