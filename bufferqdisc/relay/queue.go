package relay

import "sync"

const (
	segmentSize = 512 << 10
	maxSpare    = 16 // segments kept for reuse
)

// segment is a stretch of packets as read, one after the other.
type segment struct {
	data    []byte // len is what is filled, cap never changes
	packets []packet
	next    int // the first packet not taken yet
	start   int // its offset in data
}

type packet struct {
	size  int // with vnet header
	epoch uint64
}

// run is a stretch of packets taken out of a queue.
type run struct {
	data    []byte
	packets []packet
	whole   *segment // to be recycled after the run, or nil
}

// queue keeps one NIC's packets in order. The caller locks.
type queue struct {
	segments []*segment // oldest first; the last is being filled
	spare    *spares
}

// room is where the next packet can be read to; it is not in the queue until keep.
func (q *queue) room() []byte {
	if n := len(q.segments); n > 0 {
		s := q.segments[n-1]
		if cap(s.data)-len(s.data) >= maxRead {
			return s.data[len(s.data):cap(s.data)]
		}
	}
	s := q.spare.get()
	q.segments = append(q.segments, s)
	return s.data[:cap(s.data)]
}

// keep takes the first size octets of room into the queue. Epochs never go back.
func (q *queue) keep(size int, epoch uint64) {
	s := q.segments[len(q.segments)-1]
	s.data = s.data[:len(s.data)+size]
	s.packets = append(s.packets, packet{size, epoch})
}

// take removes all packets up to and including an epoch. A segment in a run is nobody
// else's; one that is still being filled only grows beyond the run.
func (q *queue) take(epoch uint64) []run {
	var runs []run
	for len(q.segments) > 0 {
		s := q.segments[0]
		end, stop := s.next, s.start
		for end < len(s.packets) && s.packets[end].epoch <= epoch {
			stop += s.packets[end].size
			end++
		}
		r := run{data: s.data[s.start:stop], packets: s.packets[s.next:end]}
		if end < len(s.packets) {
			s.next, s.start = end, stop
			return append(runs, r)
		}
		r.whole = s
		runs = append(runs, r)
		q.segments = q.segments[1:]
	}
	return runs
}

// spares keeps some segments that are not in use.
type spares struct {
	mu   sync.Mutex
	free []*segment // guarded by mu
}

func (p *spares) get() *segment {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return &segment{data: make([]byte, 0, segmentSize)}
	}
	s := p.free[n-1]
	p.free = p.free[:n-1]
	return s
}

func (p *spares) put(s *segment) {
	s.data, s.packets, s.next, s.start = s.data[:0], s.packets[:0], 0, 0
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < maxSpare {
		p.free = append(p.free, s)
	}
}
