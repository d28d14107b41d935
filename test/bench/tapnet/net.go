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

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/test/bridge"
)

const tapName = "g0"

var (
	guestMAC   = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	outsideMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xc}
)

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
	err = errors.Join(
		bridge.Make("br0"),
		netlink.LinkAdd(&netlink.Veth{LinkAttrs: bridge.Named("o0"), PeerName: "o1", PeerHardwareAddr: outsideMAC, PeerNamespace: netlink.NsFd(n.outside)}),
	)
	if err != nil {
		return fmt.Errorf("bridge and veth: %w", err)
	}
	if n.tap, err = bridge.OpenTAP(tapName); err != nil {
		return err
	}
	br, err := netlink.LinkByName("br0")
	if err != nil {
		return err
	}
	return errors.Join(bridge.PlugIn("br0", "o0"), bridge.PlugIn("br0", tapName), netlink.LinkSetUp(br))
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

// setUp readies the buffer of the tap.
func (n *Net) setUp(backend string) (bufferqdisc.Buffer, error) {
	return bufferqdisc.Setup(bufferqdisc.Config{Name: "bench", Taps: []string{tapName}, Backend: backend})
}
