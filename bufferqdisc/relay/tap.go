package relay

import (
	"fmt"
	"hash/fnv"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tunOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	queueLen    = 20000 // packets the kernel keeps until we read them
	maxPacket   = 65536 + 64
)

// deviceName is unique for a tap on this host and fits into 15 octets.
func deviceName(prefix, tap string) string {
	h := fnv.New32a()
	h.Write([]byte(tap))
	return fmt.Sprintf("%s%08x", prefix, h.Sum32())
}

// openTap creates a TAP that lives as long as the file.
func openTap(name string) (*os.File, netlink.Link, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	link, err := configureTap(fd, name)
	if err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("TAP %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), link, nil
}

func configureTap(fd int, name string) (netlink.Link, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads); err != nil {
		return nil, err
	}
	// The TAP must not speak for itself: no IPv6 address, no router solicitations.
	os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetTxQLen(link, queueLen); err != nil {
		return nil, err
	}
	if err := netlink.LinkSetMTU(link, 65521); err != nil {
		return nil, err
	}
	return link, netlink.LinkSetUp(link)
}
