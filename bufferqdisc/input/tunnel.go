package input

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tunnelPrefix    = "hv"
	tunnelOverhead6 = 40 + 8 + vxlanHeader + 14 // IPv6, UDP, VXLAN, Ethernet
)

// openTunnel makes the device that a tap's copies leave by, on the first of the ports that
// this host has free. It takes its numbers and the backup's address from the packets.
func openTunnel(h kernel, tap string, ports []uint16) (netlink.Link, error) {
	name := hook.DeviceName(tunnelPrefix, tap)
	if err := removeDevice(h, name); err != nil { // an earlier process's
		return nil, err
	}
	err := errors.New("the backup offers no port")
	for _, port := range ports {
		var l netlink.Link
		if l, err = openTunnelOn(h, name, port); err == nil {
			return l, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return nil, fmt.Errorf("tunnel %s of %s (VXLAN; modprobe vxlan): %w", name, tap, err)
}

func openTunnelOn(h kernel, name string, port uint16) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := h.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: int(port), PortLow: int(port), PortHigh: int(port) + 1})
	if err != nil {
		return nil, err
	}
	l, err := h.LinkByName(name)
	if err == nil {
		err = errors.Join(noOffloads(name), hook.Quiet(h, l))
	}
	if err == nil {
		err = h.LinkSetUp(l) // takes the port
	}
	if err != nil {
		return nil, errors.Join(err, removeDevice(h, name))
	}
	return l, nil
}

// checkMTU refuses a tunnel over IPv6 whose datagrams are larger than the network takes: the
// kernel cuts those over IPv4 into fragments, and drops these (net/ipv6/ip6_output.c).
func checkMTU(h kernel, tap int, to netip.Addr) error {
	if to.Is4() {
		return nil
	}
	t, err := h.LinkByIndex(tap)
	if err != nil {
		return err
	}
	routes, err := h.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return fmt.Errorf("route to %s: %w", to, err)
	}
	out, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return err
	}
	if need := t.Attrs().MTU + tunnelOverhead6; out.Attrs().MTU < need {
		return fmt.Errorf("a packet of %s is up to %d octets in the tunnel, and %s takes %d; raise its MTU, or use IPv4 between the hosts",
			t.Attrs().Name, need, out.Attrs().Name, out.Attrs().MTU)
	}
	return nil
}

// removeDevice removes a device of ours; one that is not there is no error.
func removeDevice(h kernel, name string) error {
	l, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(l)
	}
	if err != nil && !hook.IsGone(err) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// noOffloads has the kernel cut large packets and fill in checksums before the device gets
// them. What goes into the tunnel is then whole, whatever the devices behind it could do:
// between two hosts on one machine nobody else would ever do it.
func noOffloads(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{unix.ETHTOOL_STXCSUM, 0} // struct ethtool_value; GSO goes with it
	request := struct {                                              // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if err := ioctl(uintptr(fd), unix.SIOCETHTOOL, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("checksums of %s (ethtool -K tx off): %w", name, err)
	}
	return nil
}

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
