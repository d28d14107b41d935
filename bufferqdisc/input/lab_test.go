package input

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

// lab is two hosts in network namespaces that end with the test: each has a bridge with a
// guest's taps and a veth to a client, and both share a management network. The test is
// QEMU (it holds the taps' files) and the clients.
//
//	client o1 ~~ o0 --+-- br0 --+-- g0 --file--> QEMU        m ~~~~~ m
//	                            +-- g1 ...                primary  backup
type lab struct {
	t               *testing.T
	primary, backup *host
}

type host struct {
	t      *testing.T
	ns     netns.NsHandle
	addr   netip.Addr // on the management network
	guests []*guest
	client int // packet socket on o1, with vnet headers
}

type guest struct {
	name string
	fd   int
	mac  net.HardwareAddr
}

var (
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0xc}
	group     = net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

const (
	vnetHeader = bridge.VnetHeader
	etherTest  = 0x88b6 // local experimental (IEEE 802)
	patience   = 10 * time.Second
)

// newLab makes the hosts with a number of taps each; the test stays in the primary's
// namespace.
func newLab(t *testing.T, taps int, v6 bool) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: network namespaces, TAPs, BPF filters and a VXLAN device")
	}
	runtime.LockOSThread() // never unlocked: the thread's namespace ends with it
	l := &lab{t: t}
	l.backup = newHost(t, taps)
	l.primary = newHost(t, taps)
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: bridge.Named("m"), PeerName: "m", PeerNamespace: netlink.NsFd(l.backup.ns)}))
	addrs := [2]string{"10.0.0.1/24", "10.0.0.2/24"}
	if v6 {
		addrs = [2]string{"fd00::1/64", "fd00::2/64"}
	}
	for i, h := range []*host{l.primary, l.backup} {
		h.enter()
		a, err := netlink.ParseAddr(addrs[i])
		must(t, err)
		a.Flags = unix.IFA_F_NODAD
		if v6 {
			os.WriteFile("/proc/sys/net/ipv6/conf/m/disable_ipv6", []byte("0"), 0)
		}
		must(t, netlink.AddrAdd(byName(t, "m"), a))
		if v6 {
			must(t, netlink.LinkSetMTU(byName(t, "m"), 1570)) // no fragments there
		}
		up(t, "m")
		h.addr, _ = netip.AddrFromSlice(a.IP)
		h.addr = h.addr.Unmap()
	}
	for _, h := range []*host{l.backup, l.primary} {
		h.enter()
		h.awaitForwarding()
	}
	l.awaitTunnel()
	for _, g := range l.primary.guests {
		g.speak(t)
	}
	return l
}

func newHost(t *testing.T, taps int) *host {
	ns, err := netns.New() // and the thread is in it
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	h := &host{t: t, ns: ns}
	os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	must(t, bridge.Make("br0"))
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: bridge.Named("o0"), PeerName: "o1", PeerHardwareAddr: clientMAC}))
	up(t, "o1")
	must(t, bridge.PlugIn("br0", "o0"))
	for i := range taps {
		g := &guest{name: fmt.Sprintf("g%d", i), mac: net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)}}
		g.fd, err = bridge.OpenTAP(g.name)
		must(t, err)
		t.Cleanup(func() { unix.Close(g.fd) })
		must(t, bridge.PlugIn("br0", g.name))
		h.guests = append(h.guests, g)
	}
	up(t, "br0")
	h.client = packetSocket(t, "o1")
	return h
}

// enter moves the test's thread to a host.
func (h *host) enter() { must(h.t, netns.Set(h.ns)) }

// awaitForwarding broadcasts until the bridge has been seen to forward to each tap, and
// leaves nothing under way.
func (h *host) awaitForwarding() {
	await(h.t, "the lab's bridge does not forward", func(n uint32) bool {
		h.write(frame(broadcast, etherTest, n, 60))
		for _, g := range h.guests {
			if !g.sees(n) {
				return false
			}
		}
		return true
	})
}

// awaitTunnel waits until the hosts can talk to each other, as IPv6 does not at once.
func (l *lab) awaitTunnel() {
	l.backup.enter()
	in, err := net.ListenUDP("udp", &net.UDPAddr{IP: l.backup.addr.AsSlice()})
	must(l.t, err)
	defer in.Close()
	l.primary.enter()
	out, err := net.DialUDP("udp", nil, in.LocalAddr().(*net.UDPAddr))
	must(l.t, err)
	defer out.Close()
	await(l.t, "the lab's management network does not work", func(uint32) bool {
		out.Write([]byte("?"))
		in.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := in.Read(make([]byte, 1))
		return err == nil
	})
}

func await(t *testing.T, what string, ok func(n uint32) bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for n := uint32(1 << 31); !ok(n); n++ {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// speak has the bridge learn where the guest is.
func (g *guest) speak(t *testing.T) {
	p := frame(clientMAC, etherTest, 0, 60)
	copy(p[vnetHeader+6:], g.mac)
	_, err := unix.Write(g.fd, p)
	must(t, err)
}

// sees reads until a frame of that number has come, or none is there.
func (g *guest) sees(n uint32) bool {
	for {
		p := g.tryReceive()
		if p == nil || binary.BigEndian.Uint32(p[14:]) == n {
			return p != nil
		}
	}
}

func packetSocket(t *testing.T, dev string) int {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: byName(t, dev).Attrs().Index}))
	return fd
}

// frame has a sequence number behind its Ethernet header.
func frame(dst net.HardwareAddr, etherType uint16, seq uint32, size int) []byte {
	p := make([]byte, vnetHeader, vnetHeader+max(size, 60))
	p = append(append(p, dst...), clientMAC...)
	p = binary.BigEndian.AppendUint16(p, etherType)
	p = binary.BigEndian.AppendUint32(p, seq)
	return p[:cap(p)]
}

// send is the client sending one small frame a sequence number.
func (h *host) send(g *guest, seqs ...uint32) {
	for _, s := range seqs {
		h.write(frame(g.mac, etherTest, s, 60))
	}
}

func (h *host) write(p []byte) {
	h.t.Helper()
	_, err := unix.Write(h.client, p)
	must(h.t, err)
}

// tryReceive is the guest looking once; the frame without its vnet header, or nil.
func (g *guest) tryReceive() []byte {
	p := g.read()
	if p == nil {
		return nil
	}
	return p[vnetHeader:]
}

func (g *guest) read() []byte {
	buf := make([]byte, 70000)
	n, err := unix.Read(g.fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// receive is the guest getting n frames.
func (g *guest) receive(n int) ([][]byte, error) {
	return g.receiveWhile(func(all [][]byte) bool { return len(all) < n })
}

// receiveUntil is the guest getting frames up to one of that number.
func (g *guest) receiveUntil(last uint32) ([][]byte, error) {
	return g.receiveWhile(func(all [][]byte) bool { return len(all) == 0 || seqsOf(all[len(all)-1:])[0] != last })
}

func (g *guest) receiveWhile(more func([][]byte) bool) (all [][]byte, err error) {
	for deadline := time.Now().Add(patience); more(all); {
		if p := g.tryReceive(); p != nil {
			all = append(all, p)
			continue
		}
		if time.Now().After(deadline) {
			return all, fmt.Errorf("only %d frames came for %s", len(all), g.name)
		}
		poll := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
		unix.Poll(poll, 100)
	}
	return all, nil
}

// wantSeqs compares what the guest gets next.
func (g *guest) wantSeqs(t *testing.T, want ...uint32) {
	t.Helper()
	got, err := g.receive(len(want))
	must(t, err)
	if fmt.Sprint(seqsOf(got)) != fmt.Sprint(want) {
		t.Fatalf("%s got %v, want %v", g.name, seqsOf(got), want)
	}
}

func seqsOf(frames [][]byte) (seqs []uint32) {
	for _, f := range frames {
		seqs = append(seqs, binary.BigEndian.Uint32(f[14:]))
	}
	return seqs
}

func (h *host) taps() (names []string) {
	for _, g := range h.guests {
		names = append(names, g.name)
	}
	return names
}

// protect sets up both sides, copying.
func (l *lab) protect(c Config) (*Mirror, *Keeper) {
	l.t.Helper()
	k := l.keep(c)
	m := l.mirror(k)
	must(l.t, m.Start())
	return m, k
}

// mirror is ready, and no more.
func (l *lab) mirror(k *Keeper) *Mirror {
	l.t.Helper()
	m, err := NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports()})
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, m.Close()) })
	return m
}

func (l *lab) keep(c Config) *Keeper {
	l.t.Helper()
	l.backup.enter()
	c.Name, c.Listen, c.From, c.NICs = "guest", l.backup.addr, l.primary.addr, len(l.backup.guests)
	k, err := NewKeeper(c)
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, k.Close()) })
	l.primary.enter()
	return k
}

// standby takes the backup's taps down, as those of a standby are, and has k attend them.
func (l *lab) standby(k *Keeper) {
	l.t.Helper()
	l.backup.enter()
	defer l.primary.enter()
	var taps []Tap
	for _, g := range l.backup.guests {
		must(l.t, netlink.LinkSetDown(byName(l.t, g.name)))
		for g.tryReceive() != nil {
		}
		taps = append(taps, Tap{Name: g.name, MAC: g.mac.String()})
	}
	must(l.t, k.Attend(taps))
}

func (l *lab) tapsUp() {
	l.backup.enter()
	defer l.primary.enter()
	for _, g := range l.backup.guests {
		up(l.t, g.name)
	}
}

// kept is what the keeper has of one NIC now.
func (k *Keeper) keptNow(nic int) (frames [][]byte) {
	l := k.lanes[nic]
	for _, s := range l.sockets {
		drain(s.raw, l.readKept)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.kept.queue {
		frames = append(frames, p.data[vnetSize:])
	}
	return frames
}

// keepNothing drops what was kept till now.
func (k *Keeper) keepNothing(nic int) {
	l := k.lanes[nic]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept.take()
}

// ipFrame is one for a guest, see bridge.IPFrame.
func ipFrame(g *guest, v6 bool, proto byte, payload []byte, gso uint16, partial bool) []byte {
	return bridge.IPFrame(clientMAC, g.mac, v6, proto, payload, gso, partial)
}

// traces moves the test's thread to the host.
func (h *host) traces() string {
	h.t.Helper()
	h.enter()
	all, err := bridge.Traces()
	must(h.t, err)
	return all
}

// wantTraces fails the test unless devices, qdiscs and filters are what they were.
func (h *host) wantTraces(before string) {
	h.t.Helper()
	if after := h.traces(); after != before {
		h.t.Errorf("there is:\n%s\nand was\n%s", after, before)
	}
}

func byName(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func up(t testing.TB, name string) { t.Helper(); must(t, netlink.LinkSetUp(byName(t, name))) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
