package input

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	holdPrefix     = "hi"  // at the backup
	pausePrefix    = "hw"  // at the primary
	collectorQueue = 20000 // packets that the kernel keeps until they are read
	vnetSize       = 10    // struct virtio_net_hdr
)

// collector is a TAP of ours whose packets this process reads. It lives as long as its
// file.
type collector struct {
	file *os.File
	raw  syscall.RawConn
	link netlink.Link
}

// openCollector makes it with a vnet header before each packet (linux/virtio_net.h) and all
// the offloads that there are, so that large packets stay whole.
func openCollector(h kernel, name string) (c *collector, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun (modprobe tun): %w", err)
	}
	c = &collector{file: os.NewFile(uintptr(fd), name)}
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
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return c, err
	}
	if err := offload(fd); err != nil {
		return c, err
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

func (c *collector) close() error { return c.file.Close() }
