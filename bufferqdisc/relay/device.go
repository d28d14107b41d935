package relay

import (
	"errors"
	"fmt"
	"os"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// offloads are what the hold TAP hands us unfinished, to be passed on as they are;
	// a packet it lacks one for is cut up in software first, which is right but slow.
	offloads    = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadsUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6 // since Linux 6.2

	queueLen = 20000 // packets the kernel keeps until we read them
	vnetLen  = 10    // struct virtio_net_hdr, before every frame read or written
	// maxRead is the largest IP packet in a frame with two VLAN tags, and its vnet header.
	maxRead = vnetLen + 65535 + 14 + 8
)

// device is a TAP of ours. It lives as long as its file.
type device struct {
	file *os.File
	link netlink.Link
}

func openDevice(h *netlink.Handle, name string) (*device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun (modprobe tun): %w", err)
	}
	link, err := configure(h, fd, name)
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("another process buffers this tap: %w", err)
		}
		return nil, fmt.Errorf("TAP %s: %w", name, err)
	}
	return &device{file: os.NewFile(uintptr(fd), name), link: link}, nil
}

func configure(h *netlink.Handle, fd int, name string) (netlink.Link, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, err
	}
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads|offloadsUDP) != nil {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads); err != nil {
			return nil, fmt.Errorf("offloads: %w", err)
		}
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if err := hook.Quiet(h, link); err != nil {
		return nil, err
	}
	if err := h.LinkSetTxQLen(link, queueLen); err != nil {
		return nil, fmt.Errorf("queue of %d packets: %w", queueLen, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, err
	}
	return link, direct(h, link)
}

// direct gives the device no qdisc: a packet is in the TAP's own queue when the guest's
// send returns, and not in the hands of another CPU.
func direct(h *netlink.Handle, link netlink.Link) error {
	q := &netlink.GenericQdisc{QdiscType: "noqueue", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT,
	}}
	if err := h.QdiscReplace(q); err != nil {
		return fmt.Errorf("noqueue: %w", err)
	}
	return nil
}
