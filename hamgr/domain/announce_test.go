package domain

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

// TestAnnounce: of a guest that came here from another host its bridge knows at once.
func TestAnnounce(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and its namespace too
	ns, err := netns.New()
	must(err)
	defer ns.Close()
	must(bridge.Make("br0"))
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: bridge.Named("up"), PeerName: "switch"}))
	fd, err := bridge.OpenTAP("tap0")
	must(err)
	defer unix.Close(fd)
	for _, port := range []string{"tap0", "up"} {
		must(bridge.PlugIn("br0", port))
	}
	for _, name := range []string{"br0", "switch"} {
		l, err := netlink.LinkByName(name)
		must(err)
		must(netlink.LinkSetUp(l))
	}
	guest := net.HardwareAddr{0x52, 0x54, 0, 0x78, 0, 1}
	up, err := netlink.LinkByName("up")
	must(err)
	must(netlink.NeighSet(&netlink.Neigh{ // where the guest was
		LinkIndex: up.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_REACHABLE, Flags: netlink.NTF_MASTER, HardwareAddr: guest,
	}))

	ctx, cancel := context.WithCancel(t.Context())
	cancel() // once is enough
	if err := Announce(ctx, "tap0", guest.String(), time.Now()); err != context.Canceled {
		t.Fatal(err)
	}
	tap, err := netlink.LinkByName("tap0")
	must(err)
	known, err := netlink.NeighList(tap.Attrs().Index, unix.AF_BRIDGE)
	must(err)
	if !slices.ContainsFunc(known, func(n netlink.Neigh) bool { return n.HardwareAddr.String() == guest.String() }) {
		t.Errorf("at the guest's tap the bridge knows only %v", known)
	}
}

// TestAnnouncedInTime: a hamgr that stood still does not say where the guest was.
func TestAnnouncedInTime(t *testing.T) {
	for still, want := range map[time.Duration]int{0: 4, 200 * time.Millisecond: 3, announceFor: 1} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			err := repeat(t.Context(), time.Now(), func() error {
				if sent++; sent == 1 {
					time.Sleep(still)
				}
				return nil
			})
			if err != nil || sent != want {
				t.Errorf("stopped for %v, it was announced %d times instead of %d: %v", still, sent, want, err)
			}
		})
	}
	if err := repeat(t.Context(), time.Now().Add(-announceFor), func() error { return errors.New("sent") }); err != nil {
		t.Error("stopped before it was announced: ", err)
	}
}
