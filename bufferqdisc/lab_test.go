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
)

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
	vnetHeader  = 10
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
	snooping := false // the bridge would judge IP packets and send IGMP of its own
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: named("br0"), MulticastSnooping: &snooping}))
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

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func (l *lab) veth(inside, outside string, mac net.HardwareAddr) {
	v := &netlink.Veth{LinkAttrs: named(inside), PeerName: outside, PeerHardwareAddr: mac}
	must(l.t, netlink.LinkAdd(v))
	up(l.t, outside)
	l.plugIn(inside)
}

func (l *lab) plugIn(port string) {
	br, err := netlink.LinkByName("br0")
	must(l.t, err)
	must(l.t, netlink.LinkSetMaster(byName(l.t, port), br))
	up(l.t, port)
}

func (l *lab) guest(i int) *guest {
	g := &guest{name: fmt.Sprintf("g%d", i), mac: net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)}}
	g.fd = openTAP(l.t, g.name)
	l.t.Cleanup(func() { unix.Close(g.fd) })
	l.plugIn(g.name)
	return g
}

// openTAP does what QEMU does with a tap.
func openTAP(t testing.TB, name string) int {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	must(t, err)
	req, err := unix.NewIfreq(name)
	must(t, err)
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	must(t, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6))
	return fd
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

// ipFrame is a whole and valid UDP or TCP packet in a frame, since a host's bridge may
// check (br_netfilter). With gso the TCP payload is larger than a packet may be and is
// to be cut to such pieces by whoever has to; with partial the checksum is still to do.
func ipFrame(g *guest, v6 bool, proto byte, payload []byte, gso uint16, partial bool) []byte {
	l4 := make([]byte, map[byte]int{unix.IPPROTO_UDP: 8, unix.IPPROTO_TCP: 20}[proto])
	binary.BigEndian.PutUint16(l4, 1000)
	binary.BigEndian.PutUint16(l4[2:], 2000)
	sumAt := 6
	if proto == unix.IPPROTO_TCP {
		l4[12], l4[13], sumAt = 5<<4, 0x10, 16 // ACK
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(8+len(payload)))
	}
	size := len(l4) + len(payload)
	ip, addrs, etherType := ipHeader(v6, proto, size)
	pseudo := sum(addrs, uint32(proto)+uint32(size))
	if partial {
		binary.BigEndian.PutUint16(l4[sumAt:], fold(pseudo))
	} else {
		binary.BigEndian.PutUint16(l4[sumAt:], ^fold(sum(payload, sum(l4, pseudo))))
	}
	p := make([]byte, vnetHeader)
	if partial {
		p[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
		binary.NativeEndian.PutUint16(p[6:], uint16(14+len(ip)))
		binary.NativeEndian.PutUint16(p[8:], uint16(sumAt))
	}
	if gso > 0 {
		p[1] = map[bool]byte{false: 1, true: 4}[v6] // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6
		binary.NativeEndian.PutUint16(p[2:], uint16(14+len(ip)+len(l4)))
		binary.NativeEndian.PutUint16(p[4:], gso)
	}
	p = append(append(p, clientMAC...), g.mac...)
	p = binary.BigEndian.AppendUint16(p, etherType)
	return append(append(append(p, ip...), l4...), payload...)
}

func ipHeader(v6 bool, proto byte, size int) (ip, addrs []byte, etherType uint16) {
	if v6 {
		ip = make([]byte, 40)
		ip[0], ip[6], ip[7] = 6<<4, proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(size))
		ip[8], ip[23], ip[24], ip[39] = 0xfd, 1, 0xfd, 2
		return ip, ip[8:], unix.ETH_P_IPV6
	}
	ip = make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+size))
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(ip, 0)))
	return ip, ip[12:], unix.ETH_P_IP
}

// sum adds up 16-bit words (RFC 1071).
func sum(b []byte, s uint32) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 > 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
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

// traces lists what a buffer could leave behind: devices, qdiscs and filters.
func (l *lab) traces() string {
	var all []string
	links, err := netlink.LinkList()
	must(l.t, err)
	for _, k := range links {
		all = append(all, k.Attrs().Name)
		qs, err := netlink.QdiscList(k)
		must(l.t, err)
		for _, q := range qs {
			all = append(all, " "+q.Type())
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			fs, err := netlink.FilterList(k, parent)
			must(l.t, err)
			for _, f := range fs {
				all = append(all, fmt.Sprintf(" %s/%d", f.Type(), f.Attrs().Priority))
			}
		}
	}
	return fmt.Sprint(all)
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
