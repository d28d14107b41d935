package bufferqdisc

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

// ourFilters are what a buffer has on a tap's ingress.
func ourFilters(t *testing.T, tap netlink.Link) []netlink.Filter {
	fs, err := netlink.FilterList(tap, netlink.HANDLE_MIN_INGRESS)
	must(t, err)
	return fs
}

// own are the devices of a buffer.
func own(t *testing.T) (all []netlink.Link) {
	links, err := netlink.LinkList()
	must(t, err)
	for _, k := range links {
		if n := k.Attrs().Name; len(n) > 2 && (n[:2] == "hp" || n[:2] == "hh" || n[:2] == "hr") {
			all = append(all, k)
		}
	}
	return all
}

// TestSomebodyElseTakesItApart while it holds: the next call says so, what comes after it
// is held again or dropped, and the guest gets its network back with the cluster's leave.
func TestSomebodyElseTakesItApart(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, l *lab)
		want error // nil: it may go unnoticed, as nothing is out
	}{
		"filters removed": {func(t *testing.T, l *lab) {
			for _, f := range ourFilters(t, byName(t, "g1")) {
				must(t, netlink.FilterDel(f))
			}
		}, ErrLost},
		"clsact removed": {func(t *testing.T, l *lab) {
			must(t, netlink.QdiscDel(clsact(byName(t, "g1"))))
		}, ErrLost},
		"a filter before ours": {func(t *testing.T, l *lab) {
			userFilter(t, byName(t, "g1"), netlink.HANDLE_MIN_INGRESS)
		}, ErrInTheWay},
		"qdiscs removed": {func(t *testing.T, l *lab) {
			for _, k := range own(t) {
				must(t, netlink.QdiscDel(&netlink.GenericQdisc{QdiscType: "x", QdiscAttrs: netlink.QdiscAttrs{
					LinkIndex: k.Attrs().Index, Handle: handleOf(t, k), Parent: netlink.HANDLE_ROOT,
				}}))
			}
		}, ErrLost},
		"devices removed": {func(t *testing.T, l *lab) {
			for _, k := range own(t) {
				must(t, netlink.LinkDel(k))
			}
		}, ErrLost},
		"devices down": {func(t *testing.T, l *lab) {
			for _, k := range own(t) {
				must(t, netlink.LinkSetDown(k))
			}
		}, nil},
	} {
		eachBackend(t, func(t *testing.T, backend string) {
			t.Run(name, func(t *testing.T) {
				if name == "qdiscs removed" && backend == "relay" {
					return // its devices have no qdisc that matters
				}
				for _, ended := range []bool{true, false} {
					takeApart(t, backend, ended, c.do, c.want)
				}
			})
		})
	}
}

func handleOf(t *testing.T, k netlink.Link) uint32 {
	qs, err := netlink.QdiscList(k)
	must(t, err)
	for _, q := range qs {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			return q.Attrs().Handle
		}
	}
	t.Fatal("no root qdisc")
	return 0
}

func takeApart(t *testing.T, backend string, ended bool, do func(*testing.T, *lab), want error) {
	l := newLab(t, 2)
	before := l.traces()
	b := setUp(t, l, backend, 0)
	must(t, b.Hold())
	l.send(l.guests[1], 1)
	var e Epoch
	var err error
	if ended {
		e, err = b.EndEpoch()
		must(t, err)
	}
	do(t, l)
	if ended {
		err = b.Release(e, whenever)
	} else {
		_, err = b.EndEpoch()
	}
	t.Log(err)
	if want != nil && !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	if want != ErrInTheWay {
		_, err := l.arrived() // a relay whose devices were only down releases
		must(t, err)
		l.send(l.guests[0], 2)
		l.send(l.guests[1], 3)
		must(t, l.wantSeqs())
	}
	l.recover(b)
	for _, g := range l.guests {
		for _, f := range ourFilters(t, byName(t, g.name)) { // theirs
			must(t, netlink.FilterDel(f))
		}
		if want == ErrInTheWay {
			netlink.QdiscDel(clsact(byName(t, g.name)))
		}
	}
	l.wantTraces(before)
}

// recover gives the guest its network back, as an agent does with the cluster's leave.
func (l *lab) recover(b Buffer) {
	l.t.Helper()
	if err := b.Teardown(); err != nil {
		l.t.Log(err)
		if err := b.Abandon(); err != nil {
			l.t.Log(err)
		}
		must(l.t, Clear(l.taps()))
	}
	l.wantOpen()
}

// wantOpen: all NICs send as if there had never been a buffer.
func (l *lab) wantOpen() {
	l.t.Helper()
	_, err := l.arrived()
	must(l.t, err)
	var want []uint32
	for i, g := range l.guests {
		l.send(g, uint32(900+i))
		want = append(want, uint32(900+i))
	}
	must(l.t, l.wantSeqs(want...))
}

// TestNoFreeName: somebody else's device has the name that ours would have.
func TestNoFreeName(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		b := setUp(t, l, backend, 0)
		var names []string
		for _, k := range own(t) {
			names = append(names, k.Attrs().Name)
		}
		must(t, b.Teardown())
		for _, n := range names {
			must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: bridge.Named(n)}))
		}
		before := l.traces()
		if _, err := Setup(Config{Taps: l.taps(), Backend: backend}); !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL) {
			t.Errorf("Setup: %v", err)
		} else {
			t.Log(err)
		}
		l.wantTraces(before)
		l.wantOpen()
	})
}

// TestLeftoversWithoutAFilter: ifbs of an agent that died before it had them in use.
func TestLeftoversWithoutAFilter(t *testing.T) {
	needPlug(t)
	l := newLab(t, 1)
	before := l.traces()
	startChild(t, l, "plug", "hold").End()
	tap := byName(t, "g0")
	for _, f := range ourFilters(t, tap) {
		must(t, netlink.FilterDel(f))
	}
	must(t, netlink.QdiscDel(clsact(tap)))
	b := setUp(t, l, "plug", 0)
	must(t, checkOutputCommit(l, b))
	must(t, b.Teardown())
	l.wantTraces(before)
}

// TestTapVanishes while its guest's output is held: that is said at once, nothing is let go,
// and it ends without an error.
func TestTapVanishes(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for _, ended := range []bool{false, true} {
			l := newLab(t, 1)
			b := setUp(t, l, backend, 0)
			must(t, b.Hold())
			l.send(l.guests[0], 1)
			var e Epoch
			var err error
			if ended {
				e, err = b.EndEpoch()
				must(t, err)
			}
			must(t, netlink.LinkDel(byName(t, l.guests[0].name)))
			said := ""
			for range 2 {
				if ended {
					err = b.Release(e, whenever)
				} else {
					_, err = b.EndEpoch()
				}
				if !errors.Is(err, ErrLost) || said != "" && err.Error() != said {
					t.Fatalf("ended %t: %v", ended, err)
				}
				said = err.Error()
				must(t, l.wantSeqs())
			}
			t.Log(said)
			must(t, b.Abandon())
			must(t, Clear(l.taps()))
			if left := own(t); len(left) > 0 {
				t.Errorf("ended %t: %s is left", ended, left[0].Attrs().Name)
			}
		}
	})
}
