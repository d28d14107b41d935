package tapnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

// TCPWindow is how much a connection of TCP may have on its way: more than its rate times
// an epoch, as a held packet is answered an epoch later, and less than a buffer holds.
const TCPWindow = 80 << 20

// TCP is the rate, in bytes, of one connection from the guest to the outside over d. The
// guest is a namespace with a TAP of its own; in the place of QEMU two goroutines carry
// packets from one TAP to the other, whole (GSO) and with their checksums to be done.
func TCP(backend string, epoch, d time.Duration) (r Rate, err error) {
	err = inNamespaces(func(n *Net) error {
		t := tcp{Net: n, guest: netns.None()}
		defer t.close()
		if err := t.connect(); err != nil {
			return err
		}
		h, err := n.hold(backend, epoch)
		if err != nil {
			return err
		}
		r.PerSecond, err = t.rate(d)
		stats, e := h.end()
		r.Dropped = stats.Dropped
		return errors.Join(err, e)
	})
	return r, err
}

// tcp is a connection through the tap.
type tcp struct {
	*Net
	guest          netns.NsHandle
	inGuest, tap   *os.File
	server         net.Listener
	sender, reader net.Conn
	work           sync.WaitGroup
	received       atomic.Int64
}

func (t *tcp) connect() (err error) {
	if t.guest, err = newNamespace(); err != nil {
		return err
	}
	fd, err := bridge.OpenTAP("eth0")
	if err != nil {
		return err
	}
	t.inGuest = os.NewFile(uintptr(fd), "eth0")
	if err := address("eth0", "10.9.0.1/24"); err != nil {
		return err
	}
	if err := netns.Set(t.host); err != nil {
		return err
	}
	if fd, err = unix.FcntlInt(uintptr(t.Net.tap), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return err
	}
	t.tap = os.NewFile(uintptr(fd), tapName)
	if err := t.within(t.outside, t.listen); err != nil {
		return err
	}
	t.work.Go(func() { t.pump(t.inGuest, t.tap) })
	t.work.Go(func() { t.pump(t.tap, t.inGuest) })
	if err := t.within(t.guest, t.dial); err != nil {
		return err
	}
	t.reader, err = t.server.Accept()
	return err
}

func (t *tcp) listen() (err error) {
	if err := address("o1", "10.9.0.2/24"); err != nil {
		return err
	}
	l := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, TCPWindow)
		}), err)
	}}
	t.server, err = l.Listen(context.Background(), "tcp", "10.9.0.2:0")
	return err
}

// dial works on this thread, whose namespace is the guest's; Go's dialer would not.
func (t *tcp) dial() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "the guest's socket")
	defer f.Close()
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, TCPWindow/2), // the kernel doubles it
		// It opens its window until it is full; CUBIC ends that when the way takes longer,
		// as it does behind a buffer, and then takes half a minute.
		unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"),
	)
	if err != nil {
		return err
	}
	to := t.server.Addr().(*net.TCPAddr)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	t.sender = c
	return c.(*net.TCPConn).SetLinger(0) // its end leaves nothing to be sent
}

// pump is QEMU carrying packets, while the guest runs.
func (t *tcp) pump(from, to *os.File) {
	buf := make([]byte, 70000)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		t.still.RLock()
		to.Write(buf[:n]) // what finds no room is lost, as in any network
		t.still.RUnlock()
	}
}

// rate sends for d, after a time in which the window has opened.
func (t *tcp) rate(d time.Duration) (float64, error) {
	t.work.Go(func() {
		chunk := make([]byte, 256<<10)
		for {
			if _, err := t.sender.Write(chunk); err != nil {
				return
			}
		}
	})
	t.work.Go(func() {
		buf := make([]byte, 1<<20)
		for {
			k, err := t.reader.Read(buf)
			if t.received.Add(int64(k)); err != nil {
				return
			}
		}
	})
	time.Sleep(3 * warmUp)
	from, start := t.received.Load(), time.Now()
	time.Sleep(d)
	rate := float64(t.received.Load()-from) / time.Since(start).Seconds()
	if rate == 0 {
		return 0, errors.New("the connection stands still")
	}
	return rate, nil
}

// close ends the goroutines, and with them what they use.
func (t *tcp) close() {
	for _, c := range []net.Conn{t.sender, t.reader} {
		if c != nil {
			c.Close()
		}
	}
	if t.server != nil {
		t.server.Close()
	}
	for _, f := range []*os.File{t.inGuest, t.tap} {
		if f != nil {
			f.Close()
		}
	}
	t.work.Wait()
	if t.guest.IsOpen() {
		t.guest.Close()
	}
}

func address(dev, cidr string) error {
	l, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	// No queue of the guest's is shorter than its window.
	return errors.Join(netlink.LinkSetTxQLen(l, 20000), netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
}
