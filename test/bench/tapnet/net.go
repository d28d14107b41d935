// Package tapnet measures an output buffer without a guest: a tap in a bridge, in network
// namespaces of its own, and a traffic generator in the guest's place.
//
//	generator --file--> g0 --+-- br0 --+-- o0 ~~ o1: outside
package tapnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const tapName = "g0"

var outsideMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xc}

// Net is a host's namespace with the tap, and the outside's.
type Net struct {
	host, outside netns.NsHandle
	tap           int // file of g0: what is written to it, the guest has sent
	// still is held for writing while the guest stands still, for reading by who sends.
	still sync.RWMutex
}

// inNamespaces calls f on a thread of its own, in the host's namespace of a new Net. All
// ends with it.
func inNamespaces(f func(*Net) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespaces end with this thread
		n := &Net{host: netns.None(), outside: netns.None(), tap: -1}
		defer n.close()
		err := n.build()
		if err == nil {
			err = f(n)
		}
		done <- err
	}()
	return <-done
}

func (n *Net) close() {
	if n.tap >= 0 {
		unix.Close(n.tap)
	}
	for _, h := range []*netns.NsHandle{&n.host, &n.outside} {
		if h.IsOpen() {
			h.Close()
		}
	}
}

func (n *Net) build() (err error) {
	if n.outside, err = newNamespace(); err != nil {
		return err
	}
	if n.host, err = newNamespace(); err != nil {
		return err
	}
	snooping := false // the bridge would judge IP packets and send IGMP of its own
	err = errors.Join(
		netlink.LinkAdd(&netlink.Bridge{LinkAttrs: named("br0"), MulticastSnooping: &snooping}),
		netlink.LinkAdd(&netlink.Veth{LinkAttrs: named("o0"), PeerName: "o1", PeerHardwareAddr: outsideMAC, PeerNamespace: netlink.NsFd(n.outside)}),
	)
	if err != nil {
		return fmt.Errorf("bridge and veth: %w", err)
	}
	if n.tap, err = openTAP(tapName); err != nil {
		return err
	}
	br, err := netlink.LinkByName("br0")
	if err != nil {
		return err
	}
	for _, port := range []string{"o0", tapName} {
		l, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		if err := errors.Join(netlink.LinkSetMaster(l, br), netlink.LinkSetUp(l)); err != nil {
			return fmt.Errorf("port %s: %w", port, err)
		}
	}
	return netlink.LinkSetUp(br)
}

func newNamespace() (netns.NsHandle, error) {
	h, err := netns.New()
	if err != nil {
		return h, fmt.Errorf("a network namespace: %w", err)
	}
	os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) // else a little noise
	return h, nil
}

// within calls f in another namespace.
func (n *Net) within(h netns.NsHandle, f func() error) error {
	if err := netns.Set(h); err != nil {
		return err
	}
	return errors.Join(f(), netns.Set(n.host))
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// openTAP does what QEMU does with a tap.
func openTAP(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("tap %s: %w", name, err)
	}
	return fd, nil
}

// setUp readies the buffer of the tap.
func (n *Net) setUp(backend string) (bufferqdisc.Buffer, error) {
	return bufferqdisc.Setup(bufferqdisc.Config{Name: "bench", Taps: []string{tapName}, Backend: backend})
}
