package detector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/detector/lease"
)

// A heartbeat is one UDP datagram, numbers big-endian:
//
//	octets  meaning
//	0-3     magic "hHB1"; another layout takes another magic
//	4-11    cluster: FNV-1a (64 bits) of Config.Cluster
//	12-19   incarnation: when the sender started, in ns since 1970
//	20-27   sequence: grows by one with each heartbeat of an incarnation
//	28      number of names that follow, 1 to 255
//	29-     names, each a length octet (1 to 63) and as many octets: first the
//	        sender's, then those it suspects; its own again if it suspects itself
//
// Then, to a peer that was heard, 33 octets for its lease (lease.Echo):
//
//	0-7     incarnation of the peer that was heard last
//	8-15    sequence of its newest heartbeat
//	16-23   the sender's Raft term, 0 if it is not a manager
//	24      1: the sender leads and grants; else 0
//	25-32   with a grant, the index of the newest change of ownership or of the managers
//
// More octets are ignored: that is where a later version may add.
const (
	magic      = "hHB1"
	headLength = 29
	echoLength = 33
	// MaxName is the longest node name that fits a heartbeat, in octets.
	MaxName = 63
	// maxPacket keeps a heartbeat in one frame of any path that carries IPv6 (RFC 8200, section 5).
	maxPacket = 1232
)

func appendEcho(b []byte, e lease.Echo) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Incarnation)
	b = binary.BigEndian.AppendUint64(b, e.Sequence)
	b = binary.BigEndian.AppendUint64(b, e.Term)
	grant := byte(0)
	if e.Grant {
		grant = 1
	}
	return binary.BigEndian.AppendUint64(append(b, grant), e.Index)
}

// parseEcho is zero, which nobody acts on, where there is none.
func parseEcho(b []byte) (e lease.Echo) {
	if len(b) < echoLength {
		return e
	}
	return lease.Echo{
		Incarnation: binary.BigEndian.Uint64(b), Sequence: binary.BigEndian.Uint64(b[8:]), Term: binary.BigEndian.Uint64(b[16:]),
		Grant: b[24] == 1, Index: binary.BigEndian.Uint64(b[25:]),
	}
}

// errForeign marks a packet that is not a heartbeat of this cluster; it is ignored.
var errForeign = errors.New("not a heartbeat of this cluster")

type packet struct {
	judge.Heartbeat
	echo lease.Echo // of an unmarshalled one; appendEcho writes it
}

func clusterHash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// marshal drops the suspects that do not fit: a node that suspects so many is more
// likely the one cut off.
func (p packet) marshal(cluster uint64) []byte {
	b := append(make([]byte, 0, 128), magic...)
	b = binary.BigEndian.AppendUint64(b, cluster)
	b = binary.BigEndian.AppendUint64(b, p.Incarnation)
	b = binary.BigEndian.AppendUint64(b, p.Sequence)
	b = append(b, 0)
	for _, n := range append([]string{p.Sender}, p.Suspects...) {
		if len(n) > MaxName || len(b)+1+len(n) > maxPacket-echoLength || b[headLength-1] == 255 {
			break
		}
		b = append(append(b, byte(len(n))), n...)
		b[headLength-1]++
	}
	return b
}

func unmarshal(b []byte, cluster uint64) (packet, error) {
	var p packet
	if len(b) < headLength || string(b[:4]) != magic || binary.BigEndian.Uint64(b[4:]) != cluster {
		return p, errForeign
	}
	p.Incarnation = binary.BigEndian.Uint64(b[12:])
	p.Sequence = binary.BigEndian.Uint64(b[20:])
	rest := b[headLength:]
	for i := range int(b[headLength-1]) {
		if len(rest) == 0 || rest[0] == 0 || rest[0] > MaxName || len(rest) < 1+int(rest[0]) {
			return p, fmt.Errorf("%w: name %d is cut short or empty", errForeign, i)
		}
		name := string(rest[1 : 1+rest[0]])
		rest = rest[1+len(name):]
		if i == 0 {
			p.Sender = name
		} else {
			p.Suspects = append(p.Suspects, name)
		}
	}
	if p.Sender == "" {
		return p, fmt.Errorf("%w: no sender", errForeign)
	}
	p.echo = parseEcho(rest)
	return p, nil
}
