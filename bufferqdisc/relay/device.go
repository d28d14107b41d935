package relay

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// offloads are what the hold TAP hands us unfinished, to be passed on as they are;
	// a packet it lacks one for is cut up in software first, which is right but slow.
	offloads    = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadsUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6 // since Linux 6.2

	// queueLen is how many packets a TAP's queue has room for; maxPackets may wait in it, so
	// that an epoch's end always finds room.
	queueLen   = 32000
	maxPackets = queueLen - 1000

	vnetLen = 10 // struct virtio_net_hdr, before every frame read or written
	// maxRead is the largest IP packet in a frame with two VLAN tags, and its vnet header.
	maxRead = vnetLen + 65535 + 14 + 8
)

// device is a TAP of ours. It lives as long as its file.
type device struct {
	fd    int
	name  string
	index int
}

func openDevice(h hook.Kernel, name string) (*device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun (modprobe tun): %w", err)
	}
	d := &device{fd: fd, name: name}
	if err := d.configure(h); err != nil {
		d.close()
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("another process buffers this tap: %w", err)
		}
		return nil, fmt.Errorf("TAP %s: %w", name, err)
	}
	return d, nil
}

func (d *device) configure(h hook.Kernel) error {
	req, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(d.fd, unix.TUNSETIFF, req); err != nil {
		return err
	}
	if unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, offloads|offloadsUDP) != nil {
		if err := unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, offloads); err != nil {
			return fmt.Errorf("offloads: %w", err)
		}
	}
	link, err := h.LinkByName(d.name)
	if err != nil {
		return err
	}
	d.index = link.Attrs().Index
	if err := hook.Quiet(h, link); err != nil {
		return err
	}
	if err := d.mend(h); err != nil {
		return err
	}
	return direct(h, link)
}

// mend makes the queue as long as it has to be, and the device take packets.
func (d *device) mend(h hook.Kernel) error {
	if err := h.LinkSetTxQLen(d.link(), queueLen); err != nil {
		return fmt.Errorf("queue of %d packets in %s: %w", queueLen, d.name, err)
	}
	if err := h.LinkSetUp(d.link()); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// intact tells whether the queue is as we made it: a queue that is cut loses its end, and
// with it the end of an epoch.
func (d *device) intact(h hook.Kernel) error {
	l, err := h.LinkByIndex(d.index)
	if err == nil && (l.Attrs().TxQLen != queueLen || l.Attrs().Flags&net.FlagUp == 0) {
		err = errors.New("somebody else changed it")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", hook.ErrLost, d.name, err)
	}
	return nil
}

func (d *device) link() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: d.name, Index: d.index}}
}

// read is EAGAIN when nothing waits. The packet is valid until buf is used again. Neither
// read nor write ever waits, so neither tells Go's scheduler, which would take as long.
func (d *device) read(buf []byte) ([]byte, error) {
	for {
		k, _, err := unix.RawSyscall(unix.SYS_READ, uintptr(d.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		switch err {
		case 0:
			return buf[:k], nil
		case unix.EINTR:
		default:
			return nil, err
		}
	}
}

func (d *device) write(p []byte) error {
	for {
		_, _, err := unix.RawSyscall(unix.SYS_WRITE, uintptr(d.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch err {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return err
		}
	}
}

// close may be called on nil.
func (d *device) close() {
	if d != nil {
		unix.Close(d.fd)
	}
}

// direct gives the device no qdisc: a packet is in the TAP's own queue when the guest's
// send returns, and not in the hands of another CPU.
func direct(h hook.Kernel, link netlink.Link) error {
	q := &netlink.GenericQdisc{QdiscType: "noqueue", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT,
	}}
	if err := h.QdiscReplace(q); err != nil {
		return fmt.Errorf("noqueue: %w", err)
	}
	return nil
}
