package bufferqdisc

import (
	"errors"
	"strings"
	"testing"

	"github.com/hamgr/hamgr/bufferqdisc/plug"
	"github.com/vishvananda/netlink"
)

// boxes are the ifbs of a buffer, in the order they were made.
func boxes(t *testing.T) (all []netlink.Link) {
	links, err := netlink.LinkList()
	must(t, err)
	for _, k := range links {
		if strings.HasPrefix(k.Attrs().Name, "hp") {
			all = append(all, k)
		}
	}
	return all
}

// TestFlapReleasesNothing: a reset plug has credit for packets it no longer has, and
// would let packets of the epoch under way go.
func TestFlapReleasesNothing(t *testing.T) {
	needPlug(t)
	l := newLab(t, 1)
	b := setUp(t, l, "plug", 0)
	must(t, b.Hold())
	l.send(l.guests[0], 1, 2)
	e, err := b.EndEpoch()
	must(t, err)
	for _, k := range boxes(t) {
		must(t, netlink.LinkSetDown(k))
		must(t, netlink.LinkSetUp(k))
	}
	l.send(l.guests[0], 3, 4)
	for range 2 {
		if err := b.Release(e, whenever); !errors.Is(err, ErrLost) {
			t.Errorf("Release after a flap: %v", err)
		}
	}
	if _, err := b.EndEpoch(); err == nil {
		t.Error("EndEpoch after a flap: no error")
	}
	must(t, l.wantSeqs())
	must(t, b.Open())
	must(t, l.wantSeqs(3, 4))
	must(t, checkOutputCommit(l, b))
}

func TestASecondEndedEpochIsRefused(t *testing.T) {
	needPlug(t)
	l := newLab(t, 1)
	b := setUp(t, l, "plug", 0)
	must(t, b.Hold())
	l.send(l.guests[0], 1)
	e, err := b.EndEpoch()
	must(t, err)
	l.send(l.guests[0], 2)
	if _, err := b.EndEpoch(); !errors.Is(err, plug.ErrOutstanding) {
		t.Errorf("a second EndEpoch: %v", err)
	}
	must(t, b.Release(e, whenever))
	must(t, l.wantSeqs(1))
}

// TestSetupFallsBack: without a choice there is a buffer on every kernel.
func TestSetupFallsBack(t *testing.T) {
	l := newLab(t, 1)
	b := setUp(t, l, "", 0)
	want := "plug"
	if err := plug.Probe(); err != nil {
		if want = "relay"; !errors.Is(err, plug.ErrUnsupported) {
			t.Error(err)
		}
		if _, err := Setup(Config{Taps: l.taps(), Backend: "plug"}); !errors.Is(err, plug.ErrUnsupported) {
			t.Errorf("plug by force: %v", err)
		}
	}
	if got := b.Stats().Backend; got != want {
		t.Errorf("backend %s, want %s", got, want)
	}
	must(t, checkOutputCommit(l, b))
}
