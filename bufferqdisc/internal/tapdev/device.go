package tapdev

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
	// offloads are what the device hands us unfinished, to be passed on as they are;
	// a packet it lacks one for is cut up in software first, which is right but slow.
	offloads    = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	offloadsUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6 // since Linux 6.2

	// QueueLen is how many packets a device's queue has room for; MaxPackets of a guest's may
	// wait in it, so that there is room for more that is to find it.
	QueueLen   = 32000
	MaxPackets = QueueLen - 1000

	VnetLen = 10 // struct virtio_net_hdr, before every frame read or written
	// MaxRead is the largest IP packet in a frame with two VLAN tags, and its vnet header.
	MaxRead = VnetLen + 65535 + 14 + 8
)

// Device lives as long as its file.
type Device struct {
	Name  string
	Index int
	fd    int
}

// Open makes a device of that name; the kernel puts a number for a %d in it. After an error
// there is none.
func Open(h hook.Kernel, name string) (*Device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun (modprobe tun): %w", err)
	}
	d := &Device{Name: name, fd: fd}
	if err := d.configure(h); err != nil {
		d.Close()
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("another process has it: %w", err)
		}
		return nil, fmt.Errorf("TAP %s: %w", name, err)
	}
	return d, nil
}

func (d *Device) configure(h hook.Kernel) error {
	req, err := unix.NewIfreq(d.Name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(d.fd, unix.TUNSETIFF, req); err != nil {
		return err
	}
	d.Name = req.Name()
	if unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, offloads|offloadsUDP) != nil {
		if err := unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, offloads); err != nil {
			return fmt.Errorf("offloads: %w", err)
		}
	}
	link, err := h.LinkByName(d.Name)
	if err != nil {
		return err
	}
	d.Index = link.Attrs().Index
	if err := hook.Quiet(h, link); err != nil {
		return err
	}
	if err := d.Mend(h); err != nil {
		return err
	}
	return direct(h, link)
}

// Mend makes the queue as long as it has to be, and the device take packets.
func (d *Device) Mend(h hook.Kernel) error {
	if err := h.LinkSetTxQLen(d.Link(), QueueLen); err != nil {
		return fmt.Errorf("queue of %d packets in %s: %w", QueueLen, d.Name, err)
	}
	if err := h.LinkSetUp(d.Link()); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err)
	}
	return nil
}

// Intact tells whether the queue is as we made it: a queue that is cut loses its end, and
// with it the end of an epoch.
func (d *Device) Intact(h hook.Kernel) error {
	l, err := h.LinkByIndex(d.Index)
	if err == nil && (l.Attrs().TxQLen != QueueLen || l.Attrs().Flags&net.FlagUp == 0) {
		err = errors.New("somebody else changed it")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", hook.ErrLost, d.Name, err)
	}
	return nil
}

func (d *Device) Link() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: d.Name, Index: d.Index}}
}

// Read is EAGAIN when nothing waits. The packet is valid until buf is used again. Neither
// Read nor write ever waits, so neither tells Go's scheduler, which would take as long.
func (d *Device) Read(buf []byte) ([]byte, error) {
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

func (d *Device) Write(p []byte) error {
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

// Close may be called on nil.
func (d *Device) Close() {
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
