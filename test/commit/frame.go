package commit

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Frame is an Ethernet frame seen once.
type Frame struct {
	Time time.Time
	Host string // the host it came from
	// Device is the tap by which the guest emitted it; empty: it was seen on the
	// network, coming out of Host.
	Device string
	Data   []byte // with VLAN tags, without frame check sequence
}

// packet is a frame taken apart as far as it is needed.
type packet struct {
	Frame
	src, dst  string // MAC addresses
	key       string // the same for the same frame on both sides of the buffer
	kind      string // the highest protocol known: ARP, IPv6, ICMPv6, TCP, UDP, ...
	source    netip.AddrPort
	target    netip.AddrPort
	tcp       *layers.TCP
	payload   []byte // of TCP and UDP
	broadcast bool   // or multicast
}

// minFrame is what a NIC may pad a frame to.
const minFrame = 60

func dissect(f Frame) packet {
	data := bytes.Clone(f.Data)
	p := packet{Frame: f, kind: "Ethernet"}
	decoded := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	for _, l := range decoded.Layers() {
		p.take(l)
	}
	if len(data) <= minFrame {
		data = bytes.TrimRight(data, "\x00")
	}
	p.key = string(data)
	return p
}

// take notes a layer, and blanks its checksum if that may be left to a NIC.
func (p *packet) take(l gopacket.Layer) {
	switch l := l.(type) {
	case *layers.Ethernet:
		p.src, p.dst = l.SrcMAC.String(), l.DstMAC.String()
		p.broadcast = l.DstMAC[0]&1 == 1
		if l.EthernetType == etherTypeRARP {
			p.kind = "RARP"
		}
		return
	case *layers.IPv4:
		p.addresses(l.SrcIP, l.DstIP)
	case *layers.IPv6:
		p.addresses(l.SrcIP, l.DstIP)
	case *layers.TCP:
		p.tcp, p.payload = l, l.Payload
		p.ports(uint16(l.SrcPort), uint16(l.DstPort))
		clear(l.Contents[16:18])
	case *layers.UDP:
		p.payload = l.Payload
		p.ports(uint16(l.SrcPort), uint16(l.DstPort))
		clear(l.Contents[6:8])
	}
	switch l.LayerType() {
	case gopacket.LayerTypePayload, gopacket.LayerTypeDecodeFailure, gopacket.LayerTypeFragment:
	default:
		if p.tcp == nil && p.kind != "UDP" || l.LayerType() == layers.LayerTypeTCP {
			p.kind = l.LayerType().String()
		}
	}
}

const etherTypeRARP = layers.EthernetType(0x8035)

func (p *packet) addresses(src, dst []byte) {
	a, _ := netip.AddrFromSlice(src)
	b, _ := netip.AddrFromSlice(dst)
	p.source, p.target = netip.AddrPortFrom(a, 0), netip.AddrPortFrom(b, 0)
}

func (p *packet) ports(src, dst uint16) {
	p.source, p.target = netip.AddrPortFrom(p.source.Addr(), src), netip.AddrPortFrom(p.target.Addr(), dst)
}

// String is one line for a report.
func (p *packet) String() string {
	who := p.src + " > " + p.dst
	if p.source.IsValid() {
		who = fmt.Sprintf("%s > %s", p.source, p.target)
	}
	text := fmt.Sprintf("%s %s, %d octets", p.kind, who, len(p.Data))
	if len(p.payload) > 0 {
		text += fmt.Sprintf(", %.40q", p.payload)
	}
	return text
}
