package bufferqdisc

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kept leaves out what a relay takes with it when it dies.
func kept(backend string, dead []uint32, alive ...uint32) []uint32 {
	if backend == "relay" {
		return alive
	}
	return append(dead, alive...)
}

// TestAnAgentDiesWhileItHolds: what it held, of whichever epoch, stays held, and goes when
// the next agent has the cluster's leave, before anything newer. Behind a relay it is lost.
func TestAnAgentDiesWhileItHolds(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for name, clear := range map[string]func([]string) error{"Clear": Clear, "ClearBuffer": ClearBuffer} {
			t.Run(name, func(t *testing.T) {
				l := newLab(t, 2)
				before := l.traces()
				child := startChild(t, l, backend, "hold")
				l.send(l.guests[0], 1)
				child.Next()
				l.send(l.guests[0], 2)
				child.End()
				l.send(l.guests[0], 3)
				must(t, l.wantSeqs())
				must(t, clear(l.taps()))
				l.send(l.guests[0], 4)
				l.send(l.guests[1], 5)
				must(t, l.wantSeqs(kept(backend, []uint32{1, 2, 3}, 4, 5)...))
				l.wantTraces(before)
				must(t, checkOutputCommit(l, setUp(t, l, backend, 0)))
			})
		}
	})
}

// TestAnAgentDiesUnderLoad has a guest that never stops sending: nothing passes before
// the next agent's leave, and where the kernel holds all that was sent comes out, in order.
func TestAnAgentDiesUnderLoad(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		child := startChild(t, l, backend, "hold")
		end, sent := make(chan struct{}), make(chan uint32)
		go func() {
			seq := uint32(0)
			for ; seq < 15_000; seq++ {
				select {
				case <-end:
					sent <- seq
					return
				default:
					unix.Write(l.guests[0].fd, frame(l.guests[0].mac, clientMAC, etherTest, seq+1, 60))
				}
			}
			sent <- seq
		}()
		child.End()
		must(t, l.wantSeqs())
		must(t, Clear(l.taps()))
		close(end)
		last := <-sent + 1
		l.send(l.guests[0], last)
		var got []uint32
		for deadline := time.Now().Add(patience); len(got) == 0 || got[len(got)-1] != last; {
			more, err := l.arrived()
			must(t, err)
			for _, p := range more {
				got = append(got, seqOf(p))
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d arrived, the last is missing", len(got), last)
			}
		}
		first := uint32(1)
		if backend == "relay" {
			first = got[0]
		}
		for i, seq := range got {
			if seq != first+uint32(i) {
				t.Fatalf("%d arrived after %d", seq, first+uint32(i)-1)
			}
		}
	})
}

// TestLeave: a process that ends in good order opens nothing, and drops no more than one
// that is killed does. An open guest keeps its network.
func TestLeave(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		before := l.traces()
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		l.send(l.guests[0], 1)
		e, err := b.EndEpoch()
		must(t, err)
		must(t, b.Leave())
		must(t, b.Leave())
		l.send(l.guests[0], 2)
		if err := b.Release(e, whenever); !errors.Is(err, ErrCut) {
			t.Errorf("Release: %v", err)
		}
		must(t, l.wantSeqs())
		must(t, Clear(l.taps()))
		must(t, l.wantSeqs(kept(backend, []uint32{1, 2})...))
		must(t, setUp(t, l, backend, 0).Leave())
		l.send(l.guests[0], 3)
		must(t, l.wantSeqs(3))
		l.wantTraces(before)
	})
}

// TestDrop: what was held for a copy that is fenced now never leaves.
func TestDrop(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		before := l.traces()
		child := startChild(t, l, backend, "hold")
		l.send(l.guests[0], 1)
		child.Next()
		l.send(l.guests[0], 2)
		child.End()
		must(t, Drop(append(l.taps(), "no-such-tap")))
		l.send(l.guests[0], 3)
		must(t, l.wantSeqs())
		must(t, Clear(l.taps()))
		l.send(l.guests[0], 4)
		must(t, l.wantSeqs(4))
		l.wantTraces(before)
	})
}

// TestSweep: a guest ended after its agent, and its tap with it.
func TestSweep(t *testing.T) {
	needPlug(t)
	l := newLab(t, 2)
	startChild(t, l, "plug", "hold").End()
	must(t, netlink.LinkDel(byName(t, l.guests[1].name)))
	must(t, Sweep())
	if left := boxes(t); len(left) != 1 {
		t.Errorf("%d are left, 1 has its tap", len(left))
	}
	l.send(l.guests[0], 1)
	must(t, l.wantSeqs())
	must(t, Clear(l.taps()))
	must(t, l.wantSeqs(1))
}
