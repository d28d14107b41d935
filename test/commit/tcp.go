package commit

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"
)

// direction is one way of a TCP connection.
type direction struct{ from, to netip.AddrPort }

// stream is the octets of one direction, put together from all that was seen of it.
type stream struct {
	first uint32 // sequence number of data[0]
	data  []byte
	have  []bool // which octets of data were seen
	whole int    // octets from the start without a hole
	lines int    // of these, octets in lines that were handed out
	begun bool   // lines is the start of a line: the connection's beginning was seen, or a newline
	ack   uint32 // the highest acknowledgement that was sent this way
	acked bool   // ack is valid
	by    origin // who gave it
}

// origin is when a host's guest emitted what was seen outside; the zero one: not known.
type origin struct {
	host string
	at   time.Time
}

// overtaken says that something was emitted before what has come before it: the network may
// swap them, as a buffer may that is opened.
func (o origin) overtaken(by origin) bool {
	return o.host != "" && o.host == by.host && o.at.Before(by.at)
}

// maxStream bounds what is kept of one direction; what comes later is not looked at.
const maxStream = 64 << 20

// streams are all directions of all connections to the ledger.
type streams map[direction]*stream

// add takes a segment and hands each line that it completes to yield. Errors: octets
// that differ from those sent before, and an acknowledgement taken back.
func (ss streams) add(p *packet, from origin, yield func(line string)) error {
	d := direction{p.source, p.target}
	s := ss[d]
	start := p.tcp.Seq
	if p.tcp.SYN {
		start++
	}
	if s == nil || p.tcp.SYN && start != s.first {
		s = &stream{first: start, begun: p.tcp.SYN}
		ss[d] = s
	}
	err := s.acknowledge(p, from)
	if err == nil {
		err = s.put(int32(start-s.first), p.payload)
	}
	for err == nil {
		i := bytes.IndexByte(s.data[s.lines:s.whole], '\n')
		if i < 0 {
			break
		}
		if s.begun {
			yield(string(s.data[s.lines : s.lines+i]))
		}
		s.begun, s.lines = true, s.lines+i+1
	}
	return err
}

func (s *stream) acknowledge(p *packet, from origin) error {
	if !p.tcp.ACK || p.tcp.RST {
		return nil
	}
	if s.acked && int32(p.tcp.Ack-s.ack) < 0 {
		if from.overtaken(s.by) {
			return nil
		}
		return fmt.Errorf("it takes back the acknowledgement of %d octets", s.ack-p.tcp.Ack)
	}
	s.ack, s.acked, s.by = p.tcp.Ack, true, from
	return nil
}

// put places octets at an offset, which is negative for a keep-alive's.
func (s *stream) put(at int32, payload []byte) error {
	if at < 0 || int(at)+len(payload) > maxStream {
		return nil
	}
	end := int(at) + len(payload)
	if grow := end - len(s.data); grow > 0 {
		s.data = append(s.data, make([]byte, grow)...)
		s.have = append(s.have, make([]bool, grow)...)
	}
	for i, b := range payload {
		j := int(at) + i
		if s.have[j] && s.data[j] != b {
			return fmt.Errorf("octet %d of the stream differs from the one sent before", j)
		}
		s.data[j], s.have[j] = b, true
	}
	for s.whole < len(s.have) && s.have[s.whole] {
		s.whole++
	}
	return nil
}

// word is a line of the ledger's protocol as it was seen on the network.
type word struct {
	at       time.Time
	host     string // it came out of
	mac      string // it is for
	line     string
	udp      bool
	response bool // by the guest
}

// words puts together what clients and guest said, in the order of its completion.
// Contradictions of TCP go to complain, with the packet that made them.
func (c *checker) words(complain func(p *packet, err error)) (out []word) {
	ss, origins := streams{}, c.origins()
	for i := range c.packets {
		p := &c.packets[i]
		response := c.guests(*p) && p.source.Port() == c.Port
		if p.Device != "" || !response && p.target.Port() != c.Port {
			continue
		}
		w := word{at: p.Time, host: p.Host, mac: p.dst, response: response}
		switch {
		case p.tcp != nil:
			err := ss.add(p, origins[outside{p.Host, p.key, p.Time.UnixNano()}], func(line string) {
				w.line = line
				out = append(out, w)
			})
			if err != nil && response {
				complain(p, err)
			}
		case p.kind == "UDP":
			w.line, w.udp = string(bytes.TrimSuffix(p.payload, []byte("\n"))), true
			out = append(out, w)
		}
	}
	return out
}

// outside names a frame on the network.
type outside struct {
	host, key string
	at        int64 // nanoseconds
}

// origins are those of the frames that are unlike all others of their host.
func (c *checker) origins() map[outside]origin {
	out := map[outside]origin{}
	for host, m := range c.matched {
		for _, s := range m.emitted {
			if !s.seen.IsZero() && !s.alike {
				out[outside{host, s.key, s.seen.UnixNano()}] = origin{host, s.Time}
			}
		}
	}
	return out
}
