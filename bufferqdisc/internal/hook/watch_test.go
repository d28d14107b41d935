package hook

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestFlapIsSeen: a link that went down for a moment is heard of.
func TestFlapIsSeen(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: network namespaces and devices")
	}
	runtime.LockOSThread() // never unlocked: the namespace ends with this thread
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	index := map[string]int{}
	for _, name := range []string{"ours", "tap", "other"} {
		must(t, netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: name}}))
		l, err := netlink.LinkByName(name)
		must(t, err)
		index[name] = l.Attrs().Index
		must(t, netlink.LinkSetUp(l))
	}
	w, err := newWatch()
	must(t, err)
	defer w.Close()
	flap := func(name string) {
		l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index[name]}}
		must(t, netlink.LinkSetDown(l))
		must(t, netlink.LinkSetUp(l))
	}
	want := func(down, touched bool, when string) {
		t.Helper()
		got, err := w.Look(Devices{Own: map[int]bool{index["ours"]: true}, Taps: map[int]bool{index["tap"]: true}})
		if err != nil || got != (Changes{down, touched}) {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
	}
	want(false, false, "at first")
	flap("other")
	flap("tap")
	want(false, false, "after a flap of another")
	flap("ours")
	want(true, true, "after a flap")
	want(false, false, "after it was told")
	device := func(name string) netlink.Link {
		return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index[name]}}
	}
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index["tap"], Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	must(t, netlink.QdiscAdd(clsact))
	want(false, false, "after a qdisc came")
	filter := &netlink.U32{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: index["tap"], Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: 1,
	}, RedirIndex: index["other"]}
	must(t, netlink.FilterAdd(filter))
	want(false, true, "after a filter came")
	must(t, netlink.FilterDel(filter))
	want(false, true, "after it went")
	must(t, netlink.QdiscDel(clsact))
	want(false, true, "after the qdisc went")
	must(t, netlink.LinkDel(device("ours")))
	want(true, true, "deleted")
	must(t, netlink.LinkDel(device("tap")))
	want(false, true, "a tap deleted")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
