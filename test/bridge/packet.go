package bridge

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// IPFrame is a whole and valid UDP or TCP packet in a frame, since a host's bridge may
// check (br_netfilter). With gso the TCP payload is larger than a packet may be and is
// to be cut to such pieces by whoever has to; with partial the checksum is still to do.
func IPFrame(src, dst net.HardwareAddr, v6 bool, proto byte, payload []byte, gso uint16, partial bool) []byte {
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
	p := make([]byte, VnetHeader)
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
	p = append(append(p, dst...), src...)
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

// CheckIP says what is wrong with the IP packet of a frame: lengths and checksums.
func CheckIP(f []byte) error {
	ip := f[14:]
	l4, proto, addrs := ip[20:], ip[9], ip[12:20]
	if ip[0]>>4 == 6 {
		l4, proto, addrs = ip[40:], ip[6], ip[8:40]
	} else if fold(sum(ip[:20], 0)) != 0xffff || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
		return fmt.Errorf("IPv4 header of %d octets: % x", len(ip), ip[:20])
	}
	if s := fold(sum(l4, sum(addrs, uint32(proto)+uint32(len(l4))))); s != 0xffff {
		return fmt.Errorf("checksum of protocol %d over %d octets is off: %#x", proto, len(l4), s)
	}
	return nil
}

// Payload is what a frame's UDP or TCP packet carries.
func Payload(f []byte) []byte {
	ip, proto := f[14:], f[14+9]
	l4 := ip[20:]
	if ip[0]>>4 == 6 {
		l4, proto = ip[40:], ip[6]
	}
	if proto == unix.IPPROTO_TCP {
		return l4[20:]
	}
	return l4[8:]
}
