package input

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"unsafe"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	holdPrefix     = "hi"  // at the backup
	pausePrefix    = "hw"  // at the primary
	collectorQueue = 20000 // packets that the kernel keeps until they are read
	vnetSize       = 10    // struct virtio_net_hdr
	allMulticast   = 1     // TUN_FLT_ALLMULTI of include/uapi/linux/if_tun.h
)

// collector is a TAP of ours whose packets this process reads. It lives as long as its
// file.
type collector struct {
	file *os.File
	raw  syscall.RawConn
	link netlink.Link
	h    *netlink.Handle
	in   bool // a port of a bridge
}

// openCollector makes it without offloads, so that frames come whole, or with a vnet header
// before each packet (linux/virtio_net.h) and all the offloads that there are.
func openCollector(h *netlink.Handle, name string, vnet bool) (c *collector, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun (modprobe tun): %w", err)
	}
	c = &collector{h: h, file: os.NewFile(uintptr(fd), name)}
	defer func() {
		if err != nil {
			c.file.Close()
			c, err = nil, fmt.Errorf("TAP %s: %w", name, err)
		}
	}()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return c, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
	if vnet {
		flags |= unix.IFF_VNET_HDR
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return c, err
	}
	if vnet {
		if err := offload(fd); err != nil {
			return c, err
		}
	}
	if c.link, err = h.LinkByName(name); err != nil {
		return c, err
	}
	if err := errors.Join(hook.Quiet(h, c.link), h.LinkSetTxQLen(c.link, collectorQueue), h.LinkSetUp(c.link)); err != nil {
		return c, err
	}
	c.raw, err = c.file.SyscallConn()
	return c, err
}

func offload(fd int) error {
	const all = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, all|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil { // Linux 6.2
		return nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, all); err != nil {
		return fmt.Errorf("offloads: %w", err)
	}
	return nil
}

// listen makes the collector a port of the tap's bridge, that hears what is flooded for the
// guest's address and for groups. It does nothing where that would hear too much or change
// the bridge: one that is told its addresses, one with VLANs, and an isolated port.
func (c *collector) listen(tap, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	port, err := c.h.LinkByName(tap)
	if err != nil || port.Attrs().MasterIndex == 0 {
		return err
	}
	master, err := c.h.LinkByIndex(port.Attrs().MasterIndex)
	if err != nil {
		return err
	}
	bridge, ok := master.(*netlink.Bridge)
	if !ok || knowsVLANs(bridge) {
		return nil
	}
	if p, err := c.h.LinkGetProtinfo(port); err != nil || !p.Learning || !p.Flood || p.Isolated {
		return err
	}
	// A bridge takes the lowest of its ports' addresses and MTUs for its own.
	high := append(net.HardwareAddr{0xfe}, hw[1:]...)
	if err := errors.Join(c.h.LinkSetHardwareAddr(c.link, high), c.h.LinkSetMTU(c.link, bridge.MTU), c.filter(hw)); err != nil {
		return err
	}
	if err := c.h.LinkSetMaster(c.link, bridge); err != nil {
		return err
	}
	c.in = true
	return nil
}

func knowsVLANs(b *netlink.Bridge) bool { return b.VlanFiltering != nil && *b.VlanFiltering }

// leave ends listen, and the filter.
func (c *collector) leave() error {
	if !c.in {
		return nil
	}
	c.in = false
	return errors.Join(c.h.LinkSetNoMaster(c.link), c.filter(nil))
}

// filter has the kernel keep only frames to an address and to groups; nil: all.
func (c *collector) filter(hw net.HardwareAddr) (err error) {
	f := struct { // struct tun_filter
		flags, count uint16
		address      [6]byte
	}{}
	if hw != nil {
		f.flags, f.count = allMulticast, 1
		copy(f.address[:], hw)
	}
	e := c.raw.Control(func(fd uintptr) { err = ioctl(fd, unix.TUNSETTXFILTER, unsafe.Pointer(&f)) })
	return errors.Join(e, err)
}

// dropped is what the kernel's queue had no room for.
func (c *collector) dropped() uint64 {
	l, err := c.h.LinkByIndex(c.link.Attrs().Index)
	if err != nil || l.Attrs().Statistics == nil {
		return 0
	}
	return l.Attrs().Statistics.TxDropped
}

func (c *collector) close() error { return c.file.Close() }
