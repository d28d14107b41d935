package bufferqdisc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

// whenever is for a Release that nothing hurries.
var whenever = time.Now().Add(time.Hour)

// lab is a network namespace with the host's side of one guest: its taps in a bridge,
// and a veth from the bridge to the outside. The test is QEMU (it holds the taps' files)
// and the client (it sees what arrives outside).
//
//	QEMU --file--> g0, g1 --+-- br0 --+-- o0 ~~ o1 <-- client
//	                                  +-- m0 ~~ m1 <-- marker
type lab struct {
	t      *testing.T
	guests []*guest
	out    int // packet socket on o1, with vnet headers
	marker int // packet socket on m1
	marks  uint32
}

type guest struct {
	name string
	fd   int
	mac  net.HardwareAddr
}

var (
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xc}
	markerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xd}
)

const (
	vnetHeader  = bridge.VnetHeader
	etherMarker = 0x88b5 // local experimental (IEEE 802)
	etherTest   = 0x88b6
	patience    = 5 * time.Second
)

// newLab moves the test's thread into a namespace that ends with the test.
func newLab(t *testing.T, guests int) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: network namespaces, TAPs and BPF filters")
	}
	runtime.LockOSThread() // never unlocked: the namespace ends with this thread
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	l := &lab{t: t}
	must(t, bridge.Make("br0"))
	l.veth("o0", "o1", clientMAC)
	l.veth("m0", "m1", markerMAC)
	for i := range guests {
		l.guests = append(l.guests, l.guest(i))
	}
	up(t, "br0")
	l.out, l.marker = packetSocket(t, "o1"), packetSocket(t, "m1")
	l.awaitForwarding()
	return l
}

// awaitForwarding sends until each port of the bridge has been seen to forward: the
// kernel lets a port start some time after its link is up.
func (l *lab) awaitForwarding() {
	setTimeout(l.t, l.out, 20*time.Millisecond)
	defer setTimeout(l.t, l.out, patience)
	await := func(etherType uint16, send func()) {
		buf := make([]byte, 2000)
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			send()
			if _, err := unix.Read(l.out, buf); err == nil && typeOf(buf) == etherType {
				return
			}
		}
		l.t.Fatal("the lab's bridge does not forward")
	}
	await(etherMarker, l.mark)
	for _, g := range l.guests {
		await(etherTest, func() { l.send(g, 0) })
	}
	if _, err := l.arrived(); err != nil { // late copies of the above
		l.t.Fatal(err)
	}
}

func setTimeout(t *testing.T, fd int, d time.Duration) {
	tv := unix.NsecToTimeval(int64(d))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
}

// mark sends the next marker.
func (l *lab) mark() {
	l.marks++
	l.t.Helper()
	_, err := unix.Write(l.marker, frame(markerMAC, clientMAC, etherMarker, l.marks, 60))
	must(l.t, err)
}

func (l *lab) veth(inside, outside string, mac net.HardwareAddr) {
	v := &netlink.Veth{LinkAttrs: bridge.Named(inside), PeerName: outside, PeerHardwareAddr: mac}
	must(l.t, netlink.LinkAdd(v))
	up(l.t, outside)
	must(l.t, bridge.PlugIn("br0", inside))
}

func (l *lab) guest(i int) *guest {
	g := &guest{name: fmt.Sprintf("g%d", i), mac: net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)}}
	var err error
	g.fd, err = bridge.OpenTAP(g.name)
	must(l.t, err)
	l.t.Cleanup(func() { unix.Close(g.fd) })
	must(l.t, bridge.PlugIn("br0", g.name))
	return g
}

func packetSocket(t *testing.T, dev string) int {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: byName(t, dev).Attrs().Index}))
	return fd
}

// frame has a sequence number behind its Ethernet header; nothing on the way looks further.
func frame(src, dst net.HardwareAddr, etherType uint16, seq uint32, size int) []byte {
	p := make([]byte, vnetHeader, vnetHeader+max(size, 60))
	p = append(append(p, dst...), src...)
	p = binary.BigEndian.AppendUint16(p, etherType)
	p = binary.BigEndian.AppendUint32(p, seq)
	return p[:cap(p)]
}

// ipFrame is one that a guest sends, see bridge.IPFrame.
func ipFrame(g *guest, v6 bool, proto byte, payload []byte, gso uint16, partial bool) []byte {
	return bridge.IPFrame(g.mac, clientMAC, v6, proto, payload, gso, partial)
}

func seqOf(p []byte) uint32 { return binary.BigEndian.Uint32(p[vnetHeader+14:]) }

func typeOf(p []byte) uint16 { return binary.BigEndian.Uint16(p[vnetHeader+12:]) }

// send is the guest sending one small frame a sequence number.
func (l *lab) send(g *guest, seqs ...uint32) {
	for _, s := range seqs {
		l.write(g, frame(g.mac, clientMAC, etherTest, s, 60))
	}
}

func (l *lab) write(g *guest, p []byte) {
	l.t.Helper()
	_, err := unix.Write(g.fd, p)
	must(l.t, err)
}

// arrived returns the frames that have reached the client. A marker, sent through the
// same bridge now, comes after all that went before: no sleep, and nothing missed.
func (l *lab) arrived() ([][]byte, error) {
	l.mark()
	var got [][]byte
	buf := make([]byte, 70000)
	for deadline := time.Now().Add(patience); ; {
		n, err := unix.Read(l.out, buf)
		if err == unix.EINTR {
			continue
		}
		if err == nil && time.Now().After(deadline) {
			err = os.ErrDeadlineExceeded
		}
		if err != nil {
			return got, fmt.Errorf("the marker did not arrive: %w", err)
		}
		if typeOf(buf) == etherMarker {
			if seqOf(buf) == l.marks {
				return got, nil
			}
			continue
		}
		got = append(got, append([]byte(nil), buf[:n]...))
	}
}

// await is arrived until there are n frames: a plug releases soon after it was told to.
func (l *lab) await(n int) (got [][]byte, err error) {
	for deadline := time.Now().Add(patience); ; {
		more, err := l.arrived()
		if got = append(got, more...); err != nil || len(got) >= n || time.Now().After(deadline) {
			return got, err
		}
	}
}

// wantSeqs compares what has arrived since the last look.
func (l *lab) wantSeqs(want ...uint32) error {
	got, err := l.await(len(want))
	if err != nil {
		return err
	}
	var seqs []uint32
	for _, p := range got {
		seqs = append(seqs, seqOf(p))
	}
	if fmt.Sprint(seqs) != fmt.Sprint(want) {
		return fmt.Errorf("arrived %v, want %v", seqs, want)
	}
	return nil
}

// receive is QEMU reading what came in for the guest, until a frame of the test's type.
func (l *lab) receive(g *guest) ([]byte, error) {
	buf := make([]byte, 70000)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		poll := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 1000); err != nil && err != unix.EINTR {
			return nil, err
		}
		n, err := unix.Read(g.fd, buf)
		if err == nil && typeOf(buf) == etherTest {
			return buf[:n], nil
		}
	}
	return nil, errors.New("nothing came in for the guest")
}

func (l *lab) taps() (names []string) {
	for _, g := range l.guests {
		names = append(names, g.name)
	}
	return names
}

func (l *lab) traces() string {
	l.t.Helper()
	all, err := bridge.Traces()
	must(l.t, err)
	return all
}

// wantTraces fails the test unless devices, qdiscs and filters are what they were.
func (l *lab) wantTraces(before string) {
	l.t.Helper()
	if after := l.traces(); after != before {
		l.t.Errorf("there is:\n%s\nand was\n%s", after, before)
	}
}

func byName(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func up(t testing.TB, name string) { must(t, netlink.LinkSetUp(byName(t, name))) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
