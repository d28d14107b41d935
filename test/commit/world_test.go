package commit

import (
	"net"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/hamgr/hamgr/hamgr/trace"
)

var (
	zero      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	guestMAC  = net.HardwareAddr{0x52, 0x54, 0, 0x78, 0, 1}
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}
)

// world is a made-up run: what was seen and what was traced. Times are milliseconds.
type world struct {
	t      *testing.T
	frames []Frame
	events []trace.Event
	index  uint64
	ip     uint16
}

func at(ms float64) time.Time { return zero.Add(time.Duration(ms * float64(time.Millisecond))) }

func (w *world) note(ms float64, e trace.Event) {
	e.Time, e.Domain = at(ms), "g1"
	w.events = append(w.events, e)
}

// order is learned by all nodes: h3 first, the others 2 ms later.
func (w *world) order(ms float64, generation uint64, phase, mode, primary string) {
	w.index++
	for i, node := range []string{"h3", "h1", "h2"} {
		later := 2.0
		if i == 0 {
			later = 0
		}
		w.note(ms+later, trace.Event{Node: node, Kind: trace.Order, Index: w.index, Generation: generation, Phase: phase, Mode: mode, Primary: primary})
	}
}

// epoch ends on h1, and is committed on h2 unless commit is 0.
func (w *world) epoch(end, commit float64, generation, n uint64) {
	w.note(end, trace.Event{Node: "h1", Kind: trace.Boundary, Generation: generation, Epoch: n})
	if commit > 0 {
		w.note(commit, trace.Event{Node: "h2", Kind: trace.Committed, Generation: generation, Epoch: n})
	}
}

// protected is g1 on h1 from 0, protected from 100 on, with epochs of 25 ms that are
// committed 5 ms after their end, the last one ending at 225.
func protected(t *testing.T) *world {
	w := &world{t: t}
	w.order(-50, 1, "solo", "buffer", "h1")
	w.order(0, 2, "syncing", "buffer", "h1")
	w.note(100, trace.Event{Node: "h1", Kind: trace.Hold, Generation: 2})
	for n := range uint64(6) {
		w.epoch(100+25*float64(n), 105+25*float64(n), 2, n+1)
	}
	w.order(110, 2, "protected", "buffer", "h1")
	return w
}

// emit is a frame of the guest's on a host, seen outside unless seen is 0.
func (w *world) emit(emitted, seen float64, host string, data []byte) {
	w.frames = append(w.frames, Frame{Time: at(emitted), Host: host, Device: "vnet0", Data: data})
	if seen > 0 {
		w.frames = append(w.frames, Frame{Time: at(seen), Host: host, Data: data})
	}
}

// ask is a client's frame.
func (w *world) ask(ms float64, data []byte) {
	w.frames = append(w.frames, Frame{Time: at(ms), Host: "client", Data: data})
}

func (w *world) serialize(ls ...gopacket.SerializableLayer) []byte {
	w.t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

func ethernet(fromGuest bool, t layers.EthernetType) *layers.Ethernet {
	if fromGuest {
		return &layers.Ethernet{SrcMAC: guestMAC, DstMAC: clientMAC, EthernetType: t}
	}
	return &layers.Ethernet{SrcMAC: clientMAC, DstMAC: guestMAC, EthernetType: t}
}

func (w *world) arp() []byte {
	return w.serialize(ethernet(true, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
		SourceHwAddress: guestMAC, SourceProtAddress: []byte{10, 78, 0, 201}, DstHwAddress: clientMAC, DstProtAddress: []byte{10, 78, 0, 100},
	})
}

func (w *world) ip4(fromGuest bool, p layers.IPProtocol) *layers.IPv4 {
	w.ip++
	i := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: w.ip, Protocol: p, SrcIP: net.IP{10, 78, 0, 100}, DstIP: net.IP{10, 78, 0, 201}}
	if fromGuest {
		i.SrcIP, i.DstIP = i.DstIP, i.SrcIP
	}
	return i
}

func ports(fromGuest bool) (src, dst uint16) {
	if fromGuest {
		return 7000, 40000
	}
	return 40000, 7000
}

func (w *world) udp(fromGuest bool, line string) []byte {
	src, dst := ports(fromGuest)
	ip, u := w.ip4(fromGuest, layers.IPProtocolUDP), &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
	u.SetNetworkLayerForChecksum(ip)
	return w.serialize(ethernet(fromGuest, layers.EthernetTypeIPv4), ip, u, gopacket.Payload(line))
}

func (w *world) udp6(line string) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("fd78::201"), DstIP: net.ParseIP("fd78::100")}
	u := &layers.UDP{SrcPort: 7000, DstPort: 40000}
	u.SetNetworkLayerForChecksum(ip)
	return w.serialize(ethernet(true, layers.EthernetTypeIPv6), ip, u, gopacket.Payload(line))
}

func (w *world) tcp(fromGuest bool, seq, ack uint32, payload string) []byte {
	src, dst := ports(fromGuest)
	ip := w.ip4(fromGuest, layers.IPProtocolTCP)
	s := &layers.TCP{SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), Seq: seq, Ack: ack, ACK: true, Window: 1000}
	s.SetNetworkLayerForChecksum(ip)
	return w.serialize(ethernet(fromGuest, layers.EthernetTypeIPv4), ip, s, gopacket.Payload(payload))
}

func (w *world) syn(fromGuest bool, seq uint32) []byte {
	src, dst := ports(fromGuest)
	ip := w.ip4(fromGuest, layers.IPProtocolTCP)
	s := &layers.TCP{SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), Seq: seq, SYN: true}
	s.SetNetworkLayerForChecksum(ip)
	return w.serialize(ethernet(fromGuest, layers.EthernetTypeIPv4), ip, s)
}

func (w *world) check(o Options) Report {
	o.Domain, o.MACs = "g1", []string{guestMAC.String()}
	return Check(w.frames, w.events, o)
}

// want fails unless the violations are exactly these, counted by kind.
func (w *world) want(r Report, kinds ...Kind) {
	w.t.Helper()
	left := map[Kind]int{}
	for k, n := range r.Count {
		left[k] = n
	}
	for _, k := range kinds {
		left[k]--
	}
	for _, n := range left {
		if n != 0 {
			w.t.Fatalf("violations %v, want %v; %+v", r.Count, kinds, r.Violations)
		}
	}
	if (r.Err() == nil) != (len(kinds) == 0) {
		w.t.Fatalf("error %v with violations %v", r.Err(), r.Count)
	}
}
