// Package bridge is a host's side of a guest's network, for tests and measurements in
// network namespaces of their own: a bridge, taps held as QEMU holds them, and packets.
// Everything is in the namespace of the calling thread.
//
//	QEMU --file--> g0 --+-- br0 --+-- o0 ~~ o1: outside
package bridge

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VnetHeader is the length of struct virtio_net_hdr, which a tap's file has before every
// frame.
const VnetHeader = 10

// Make makes a bridge that sends nothing of its own. It is down.
func Make(name string) error {
	snooping := false // it would judge IP packets and send IGMP
	return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: Named(name), MulticastSnooping: &snooping})
}

// PlugIn makes a device a port of a bridge, and takes it up.
func PlugIn(bridge, port string) error {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	l, err := netlink.LinkByName(port)
	if err == nil {
		err = errors.Join(netlink.LinkSetMaster(l, br), netlink.LinkSetUp(l))
	}
	if err != nil {
		return fmt.Errorf("port %s: %w", port, err)
	}
	return nil
}

// Named is a device that has a name and nothing else.
func Named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// OpenTAP does what QEMU does with a tap, which is there as long as the file is open.
func OpenTAP(name string) (int, error) {
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

// Traces lists what somebody could leave behind: devices, qdiscs and filters.
func Traces() (string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return "", err
	}
	var all []string
	for _, k := range links {
		all = append(all, k.Attrs().Name)
		qs, err := netlink.QdiscList(k)
		if err != nil {
			return "", fmt.Errorf("qdiscs of %s: %w", k.Attrs().Name, err)
		}
		for _, q := range qs {
			all = append(all, " "+q.Type())
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			fs, err := netlink.FilterList(k, parent)
			if err != nil {
				return "", fmt.Errorf("filters of %s: %w", k.Attrs().Name, err)
			}
			for _, f := range fs {
				all = append(all, fmt.Sprintf(" %s/%d", f.Type(), f.Attrs().Priority))
			}
		}
	}
	return fmt.Sprint(all), nil
}
