package domain

import (
	"context"
	"net"
	"runtime"
	"slices"
	"testing"

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
	if err := Announce(ctx, "tap0", guest.String()); err != context.Canceled {
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
