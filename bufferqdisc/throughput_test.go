package bufferqdisc

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// BenchmarkTCP is a guest's TCP stream to the outside through two real stacks, in chunks
// of 64 KiB: direct, and held in epochs that are released when the next has begun.
// QEMU is played by a pump between the guest's kernel and its tap; it stands still for
// EndEpoch, as the guest does.
func BenchmarkTCP(b *testing.B) {
	for _, c := range []struct {
		name  string
		epoch time.Duration
	}{{"direct", 0}, {"relay-epoch-1ms", time.Millisecond}, {"relay-epoch-20ms", 20 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b)
			buf, err := Setup(Config{Name: "guest", Taps: []string{"g0"}, Backend: "relay"})
			must(b, err)
			stop := make(chan struct{})
			var epochs sync.WaitGroup
			if c.epoch > 0 {
				must(b, buf.Hold())
				epochs.Go(func() { w.epochs(buf, c.epoch, stop) })
			}
			b.SetBytes(64 << 10)
			b.ResetTimer()
			w.transfer(int64(b.N) * 64 << 10)
			b.StopTimer()
			close(stop)
			epochs.Wait()
			s := buf.Stats()
			b.ReportMetric(float64(s.Dropped), "drops")
			if s.Released > 0 {
				b.ReportMetric(float64(s.ReleasedBytes)/float64(s.Released), "B/packet")
			}
			must(b, buf.Teardown())
		})
	}
}

type world struct {
	b        *testing.B
	conn     net.Conn     // the guest's end
	server   net.Listener // outside
	stopped  sync.RWMutex // held for writing while the guest stands still
	pumps    sync.WaitGroup
	inGuest  *os.File
	onBridge *os.File
}

// newWorld makes host, guest and outside, each a namespace; the caller's thread is in
// the host's and ends with the benchmark.
func newWorld(b *testing.B) *world {
	runtime.LockOSThread()
	w := &world{b: b}
	outside, err := netns.New()
	must(b, err)
	guest, err := netns.New()
	must(b, err)
	w.inGuest = os.NewFile(uintptr(openTAP(b, "eth0")), "eth0")
	address(b, "eth0", "10.9.0.1/24")
	host, err := netns.New()
	must(b, err)
	must(b, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: named("br0")}))
	must(b, netlink.LinkAdd(&netlink.Veth{LinkAttrs: named("o0"), PeerName: "o1"}))
	must(b, netlink.LinkSetNsFd(byName(b, "o1"), int(outside)))
	w.onBridge = os.NewFile(uintptr(openTAP(b, "g0")), "g0")
	for _, port := range []string{"o0", "g0"} {
		must(b, netlink.LinkSetMaster(byName(b, port), byName(b, "br0")))
		up(b, port)
	}
	up(b, "br0")
	must(b, netns.Set(outside))
	address(b, "o1", "10.9.0.2/24")
	w.server, err = net.Listen("tcp", "10.9.0.2:0")
	must(b, err)
	must(b, netns.Set(guest))
	w.pumps.Go(func() { w.pump(w.inGuest, w.onBridge) })
	w.pumps.Go(func() { w.pump(w.onBridge, w.inGuest) })
	w.conn = w.connect()
	must(b, netns.Set(host))
	b.Cleanup(func() {
		for _, c := range []io.Closer{w.conn, w.server, w.inGuest, w.onBridge, &outside, &guest, &host} {
			c.Close()
		}
		w.pumps.Wait()
	})
	return w
}

// connect dials on this thread, whose namespace is the guest's; Go's dialer would not.
func (w *world) connect() net.Conn {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(w.b, err)
	to := w.server.Addr().(*net.TCPAddr)
	sa := &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
	must(w.b, unix.Connect(fd, sa))
	f := os.NewFile(uintptr(fd), "guest's socket")
	defer f.Close()
	c, err := net.FileConn(f)
	must(w.b, err)
	return c
}

func address(b *testing.B, dev, cidr string) {
	a, err := netlink.ParseAddr(cidr)
	must(b, err)
	must(b, netlink.AddrAdd(byName(b, dev), a))
	up(b, dev)
}

func (w *world) pump(from, to *os.File) {
	buf := make([]byte, 70000)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.stopped.RLock()
		to.Write(buf[:n])
		w.stopped.RUnlock()
	}
}

func (w *world) epochs(buf Buffer, length time.Duration, stop chan struct{}) {
	tick := time.NewTicker(length)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		w.stopped.Lock()
		e, err := buf.EndEpoch()
		w.stopped.Unlock()
		if err == nil {
			err = buf.Release(e)
		}
		if err != nil {
			w.b.Error(err)
			return
		}
	}
}

// transfer sends from the guest and returns when all has arrived outside.
func (w *world) transfer(bytes int64) {
	var done sync.WaitGroup
	done.Go(func() {
		c, err := w.server.Accept()
		if err != nil {
			w.b.Error(err)
			return
		}
		defer c.Close()
		if _, err := io.CopyN(io.Discard, c, bytes); err != nil {
			w.b.Error(err)
		}
	})
	chunk := make([]byte, 64<<10)
	for range bytes / int64(len(chunk)) {
		if _, err := w.conn.Write(chunk); err != nil {
			w.b.Error(err)
			break
		}
	}
	done.Wait()
}
