package bufferqdisc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	hosts "github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/labtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// eachBackend runs a test with every backend this kernel has; relay must be there. A
// kernel in a process of its own is slow, and there for sch_plug alone.
func eachBackend(t *testing.T, test func(t *testing.T, backend string)) {
	if !labtest.On(hosts.UML) {
		t.Run("relay", func(t *testing.T) { test(t, "relay") })
	}
	t.Run("plug", func(t *testing.T) {
		needPlug(t)
		test(t, "plug")
	})
}

func setUp(t *testing.T, l *lab, backend string, limit int) Buffer {
	t.Helper()
	b, err := Setup(Config{Name: "guest", Taps: l.taps(), Backend: backend, LimitBytes: limit})
	must(t, err)
	t.Cleanup(func() { b.Abandon() })
	return b
}

// checkOutputCommit is the promise: nothing before its epoch's Release, then all of it,
// in order, and nothing of the next epoch.
func checkOutputCommit(l *lab, b Buffer) error {
	g := l.guests[0]
	l.send(g, 1)
	if err := l.wantSeqs(1); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := b.Hold(); err != nil {
		return err
	}
	l.send(g, 2, 3, 4)
	if err := l.wantSeqs(); err != nil {
		return fmt.Errorf("before EndEpoch: %w", err)
	}
	e, err := b.EndEpoch()
	if err != nil {
		return err
	}
	l.send(g, 5, 6)
	if err := l.wantSeqs(); err != nil {
		return fmt.Errorf("before Release: %w", err)
	}
	if err := b.Release(e, whenever); err != nil {
		return err
	}
	if err := l.wantSeqs(2, 3, 4); err != nil {
		return fmt.Errorf("after Release: %w", err)
	}
	if err := b.Release(e+1, whenever); !errors.Is(err, ErrNotEnded) {
		return fmt.Errorf("Release of the epoch under way: %v", err)
	}
	if err := b.Release(e, whenever); err != nil {
		return fmt.Errorf("Release again: %w", err)
	}
	if err := l.wantSeqs(); err != nil {
		return fmt.Errorf("after Release again: %w", err)
	}
	if e, err = b.EndEpoch(); err != nil {
		return err
	}
	if err := b.Release(e, whenever); err != nil {
		return err
	}
	return l.wantSeqs(5, 6)
}

func TestOutputCommit(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		must(t, checkOutputCommit(l, setUp(t, l, backend, 0)))
	})
}

// TestLateRelease: what is released too late stays held, and in its order.
func TestLateRelease(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		g := l.guests[0]
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		l.send(g, 1, 2, 3)
		e, err := b.EndEpoch()
		must(t, err)
		for _, until := range []time.Time{{}, time.Now()} {
			if err := b.Release(e, until); !errors.Is(err, ErrLate) {
				t.Errorf("%v", err)
			}
		}
		must(t, l.wantSeqs())
		must(t, b.Release(e, whenever))
		must(t, l.wantSeqs(1, 2, 3))
	})
}

// TestReleaseThatBecomesLate: the kernel keeps the deadline, not this process, which may be
// stopped at any packet. None is lost, not even the one that was on its way in that moment,
// in whichever NIC, and whether the rest is released, or let go as the buffer opens.
func TestReleaseThatBecomesLate(t *testing.T) {
	const all = 900 // of two NICs, one after the other; less than a tap's queue has room for
	for name, after := range map[string]uint64{"in the first NIC": 0, "in the second NIC": all / 2} {
		for way, rest := range map[string]func(Buffer, Epoch) error{
			"released": func(b Buffer, e Epoch) (err error) {
				err = ErrLate
				for tries := 0; errors.Is(err, ErrLate) && tries < 100*all; tries++ {
					err = b.Release(e, time.Now().Add(100*time.Microsecond))
				}
				return err
			},
			"opened":  func(b Buffer, _ Epoch) error { return b.Open() },
			"dropped": func(b Buffer, _ Epoch) error { return b.Abandon() },
		} {
			t.Run(name+" "+way, func(t *testing.T) {
				l := newLab(t, 2)
				b := setUp(t, l, "relay", 0)
				must(t, b.Hold())
				for s := range uint32(all) {
					l.send(l.guests[2*s/all], s+1)
				}
				e, err := b.EndEpoch()
				must(t, err)
				var s Stats
				for tries := 0; s.Released <= after; tries++ {
					if err := b.Release(e, time.Now().Add(100*time.Microsecond)); !errors.Is(err, ErrLate) || tries > 100*all {
						t.Fatalf("not late: %v, %+v", err, s)
					}
					if s = b.Stats(); s.HeldPackets+s.Released != all || s.Dropped != 0 {
						t.Fatalf("%+v", s)
					}
				}
				must(t, rest(b, e))
				want := uint64(all)
				if way == "dropped" {
					want = s.Released
				}
				if s = b.Stats(); s.HeldPackets != 0 || s.Released != want || s.Dropped != all-want {
					t.Errorf("%+v", s)
				}
				got, err := l.await(int(want))
				must(t, err)
				inOrder := slices.IsSortedFunc(got, func(a, b []byte) int { return cmp.Compare(seqOf(a), seqOf(b)) })
				if len(got) != int(want) || !inOrder {
					t.Errorf("%d of %d came, in order: %v", len(got), want, inOrder)
				}
			})
		}
	}
}

// eager is the mutant that releases when the checkpoint is taken, as Xen's Remus did.
type eager struct{ Buffer }

func (m eager) EndEpoch() (Epoch, error) {
	e, err := m.Buffer.EndEpoch()
	return e, errors.Join(err, m.Release(e, whenever))
}

// never is the mutant that does not hold at all.
type never struct{ Buffer }

func (never) Hold() error { return nil }

func TestMutantsAreSeen(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for _, m := range []func(Buffer) Buffer{
			func(b Buffer) Buffer { return eager{b} },
			func(b Buffer) Buffer { return never{b} },
		} {
			t.Run("", func(t *testing.T) {
				l := newLab(t, 1)
				b := m(setUp(t, l, backend, 0))
				err := checkOutputCommit(l, b)
				if err == nil {
					t.Fatalf("%T passed", b)
				}
				t.Logf("%T: %v", b, err)
			})
		}
	})
}

// everyProtocol is a frame of each kind, to the client and to all, and what to look for
// in it: a packet socket shows a VLAN frame without its tag.
func everyProtocol(g *guest) (frames [][]byte, names []string) {
	broadcast := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	for _, etherType := range []uint16{unix.ETH_P_IP, unix.ETH_P_ARP, unix.ETH_P_IPV6, unix.ETH_P_8021Q, 0x8035, etherTest} {
		for _, dst := range []net.HardwareAddr{clientMAC, broadcast} {
			name := fmt.Sprintf("%#x to %v", etherType, dst)
			p := frame(g.mac, dst, etherType, 0x0005_88b6, 200)
			copy(p[100:], name)
			if etherType == unix.ETH_P_IP || etherType == unix.ETH_P_IPV6 {
				p = ipFrame(g, etherType == unix.ETH_P_IPV6, unix.IPPROTO_UDP, []byte(name), 0, false)
				copy(p[vnetHeader:], dst)
			}
			frames, names = append(frames, p), append(names, name)
		}
	}
	return frames, names
}

func TestEveryProtocolIsHeld(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		g := l.guests[0]
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		frames, want := everyProtocol(g)
		for _, p := range frames {
			l.write(g, p)
		}
		must(t, l.wantSeqs())
		e, err := b.EndEpoch()
		must(t, err)
		must(t, b.Release(e, whenever))
		got, err := l.await(len(want))
		must(t, err)
		if len(got) != len(want) {
			t.Fatalf("%d of %d frames arrived", len(got), len(want))
		}
		for i, p := range got {
			if !bytes.Contains(p, []byte(want[i])) {
				t.Errorf("frame %d is not %s", i, want[i])
			}
		}
	})
}

func TestEpochsFollowEachOther(t *testing.T) {
	l := newLab(t, 1)
	b := setUp(t, l, "relay", 0)
	must(t, b.Hold())
	var ends []Epoch
	for seq := uint32(1); seq <= 4; seq++ {
		l.send(l.guests[0], 10*seq, 10*seq+1)
		e, err := b.EndEpoch()
		must(t, err)
		ends = append(ends, e)
	}
	must(t, l.wantSeqs())
	must(t, b.Release(ends[0], whenever))
	must(t, l.wantSeqs(10, 11))
	must(t, b.Release(ends[2], whenever))
	must(t, l.wantSeqs(20, 21, 30, 31))
	must(t, b.Release(ends[1], whenever))
	must(t, l.wantSeqs())
	must(t, b.Release(ends[3], whenever))
	must(t, l.wantSeqs(40, 41))
}

// TestBoundaryUnderLoad has a guest that sends all the time but while it is stopped.
func TestBoundaryUnderLoad(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		run, stopped, end := make(chan struct{}), make(chan uint32), make(chan struct{})
		go func() {
			seq := uint32(0)
			for range run { // one turn is one epoch of guest execution
				for range 300 + seq%7 {
					seq++
					unix.Write(l.guests[0].fd, frame(l.guests[0].mac, clientMAC, etherTest, seq, 400))
				}
				stopped <- seq
			}
			close(end)
		}()
		released := uint32(0)
		var last uint32
		var ended Epoch
		for epoch := range 60 {
			run <- struct{}{}
			if epoch > 0 { // commit and release the epoch before while the guest runs
				must(t, b.Release(ended, whenever))
			}
			now := <-stopped
			got, err := l.await(int(last - released))
			must(t, err)
			for _, p := range got {
				if released++; seqOf(p) != released {
					t.Fatalf("epoch %d: %d arrived, want %d", epoch, seqOf(p), released)
				}
			}
			if released != last {
				t.Fatalf("epoch %d: %d frames are out, %d are committed", epoch, released, last)
			}
			if ended, err = b.EndEpoch(); err != nil {
				t.Fatal(err)
			}
			last = now
		}
		close(run)
		<-end
		if s := b.Stats(); s.Dropped != 0 {
			t.Fatalf("dropped: %+v", s)
		}
	})
}

func TestInboundIsUntouched(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		g := l.guests[0]
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		in := frame(clientMAC, g.mac, etherTest, 7, 900)
		_, err := unix.Write(l.out, in)
		must(t, err)
		got, err := l.receive(g)
		must(t, err)
		if !bytes.Equal(got[vnetHeader:], in[vnetHeader:]) {
			t.Fatal("the frame was changed")
		}
	})
}

func TestBridgeLearnsTheGuestOnItsPort(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		g := l.guests[0]
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		l.send(g, 1)
		e, err := b.EndEpoch()
		must(t, err)
		must(t, b.Release(e, whenever))
		must(t, l.wantSeqs(1))
		entries, err := netlink.NeighList(byName(t, g.name).Attrs().Index, unix.AF_BRIDGE)
		must(t, err)
		for _, n := range entries {
			if bytes.Equal(n.HardwareAddr, g.mac) {
				return
			}
		}
		t.Fatalf("%v is not on port %s: %v", g.mac, g.name, entries)
	})
}

func TestNICsAreReleasedTogether(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 2)
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		l.send(l.guests[0], 1)
		l.send(l.guests[1], 2)
		must(t, l.wantSeqs())
		e, err := b.EndEpoch()
		must(t, err)
		l.send(l.guests[1], 3)
		must(t, b.Release(e, whenever))
		must(t, l.wantSeqs(1, 2))
	})
}

func TestOpenLetsAllGoInOrder(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		b := setUp(t, l, backend, 0)
		for round := range uint32(3) {
			base := 10 * round
			must(t, b.Hold())
			l.send(l.guests[0], base+1, base+2)
			_, err := b.EndEpoch()
			must(t, err)
			l.send(l.guests[0], base+3)
			must(t, l.wantSeqs())
			must(t, b.Open())
			l.send(l.guests[0], base+4)
			must(t, l.wantSeqs(base+1, base+2, base+3, base+4))
		}
	})
}

func TestLimit(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		b := setUp(t, l, backend, 10_000)
		must(t, b.Hold())
		for seq := range uint32(20) {
			l.write(l.guests[0], frame(l.guests[0].mac, clientMAC, etherTest, seq, 1000))
		}
		e, err := b.EndEpoch()
		must(t, err)
		if s := b.Stats(); s.HeldPackets != 10 || s.HeldBytes != 10_000 || s.Dropped != 10 {
			t.Fatalf("%+v", s)
		}
		must(t, b.Release(e, whenever))
		must(t, l.wantSeqs(0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
		if s := b.Stats(); s.HeldPackets != 0 || s.HeldBytes != 0 || s.Released < 10 || s.Dropped != 10 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestAbandonCuts(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for _, hold := range []bool{true, false} {
			t.Run(fmt.Sprintf("holding=%v", hold), func(t *testing.T) {
				l := newLab(t, 1)
				before := l.traces()
				b := setUp(t, l, backend, 0)
				var e Epoch
				if hold {
					must(t, b.Hold())
					l.send(l.guests[0], 1)
					var err error
					e, err = b.EndEpoch()
					must(t, err)
				}
				must(t, b.Abandon())
				must(t, b.Abandon())
				l.send(l.guests[0], 2)
				for what, err := range map[string]error{
					"Release": b.Release(e, whenever), "Open": b.Open(), "Hold": b.Hold(), "Teardown": b.Teardown(),
				} {
					if !errors.Is(err, ErrCut) && !(what == "Release" && errors.Is(err, ErrNotEnded)) {
						t.Errorf("%s after Abandon: %v", what, err)
					}
				}
				must(t, l.wantSeqs())
				if s := b.Stats(); hold && (s.Dropped != 1 || s.HeldPackets != 0) {
					t.Errorf("%+v", s)
				}
				wantRefusalThenClear(l, backend)
				l.wantTraces(before)
			})
		}
	})
}

// wantRefusalThenClear: a cut tap is opened by Clear and by nothing else. What is held
// still, and 90 should this hold it, goes first.
func wantRefusalThenClear(l *lab, backend string, held ...uint32) {
	l.t.Helper()
	if _, err := Setup(Config{Taps: l.taps(), Backend: backend}); !errors.Is(err, ErrCut) {
		l.t.Errorf("Setup on a cut tap: %v", err)
	}
	l.send(l.guests[0], 90)
	must(l.t, l.wantSeqs())
	must(l.t, Clear(append(l.taps(), "no-such-tap")))
	l.send(l.guests[0], 91)
	must(l.t, l.wantSeqs(append(held, 91)...))
}

func TestTeardownLeavesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 2)
		traces, files, routines := l.traces(), openFiles(t), runtime.NumGoroutine()
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		l.send(l.guests[0], 1)
		must(t, b.Teardown())
		must(t, b.Teardown())
		must(t, b.Abandon()) // as a deferred clean-up would
		l.send(l.guests[0], 2)
		must(t, l.wantSeqs(1, 2))
		l.wantTraces(traces)
		if got := openFiles(t); got != files {
			t.Errorf("%d files open, were %d", got, files)
		}
		for deadline := time.Now().Add(patience); runtime.NumGoroutine() > routines; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, were %d", runtime.NumGoroutine(), routines)
			}
		}
	})
}

func openFiles(t *testing.T) int {
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}
