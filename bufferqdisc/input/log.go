package input

import "slices"

// overhead is what a packet costs beside its data, bytes.
const overhead = 64

// packetLog keeps numbered packets in order of their numbers, within limits, the oldest
// dropped first. The caller locks.
type packetLog struct {
	maxPackets, maxBytes int

	queue   []packet // by number; those of one number in order of arrival
	bytes   int
	newest  uint64 // the highest number seen
	forgot  uint64 // numbers up to here are not wanted any more
	dropped uint64 // for want of room
	missing uint64 // numbers below newest that have not come
}

type packet struct {
	number uint64
	data   []byte // with its vnet header
}

func newLog(maxPackets, maxBytes int) *packetLog {
	return &packetLog{maxPackets: maxPackets, maxBytes: maxBytes}
}

// put keeps a copy of a packet, given in parts.
func (l *packetLog) put(number uint64, parts ...[]byte) {
	switch {
	case number > l.newest:
		l.missing += number - l.newest - 1
		l.newest = number
	case number < l.newest && l.missing > 0 && !l.has(number):
		l.missing--
	}
	if number <= l.forgot {
		return
	}
	at := len(l.queue)
	for at > 0 && l.queue[at-1].number > number {
		at--
	}
	p := packet{number, slices.Concat(parts...)}
	l.queue = slices.Insert(l.queue, at, p)
	l.bytes += len(p.data) + overhead
	for len(l.queue) > l.maxPackets || l.bytes > l.maxBytes {
		l.dropped++
		l.dropFirst()
	}
}

func (l *packetLog) has(number uint64) bool {
	for i := len(l.queue) - 1; i >= 0 && l.queue[i].number >= number; i-- {
		if l.queue[i].number == number {
			return true
		}
	}
	return number <= l.forgot
}

// forget drops all up to a number, which exists: what has not come of these is missing.
func (l *packetLog) forget(number uint64) {
	if number > l.newest {
		l.missing += number - l.newest
		l.newest = number
	}
	l.forgot = max(l.forgot, number)
	for len(l.queue) > 0 && l.queue[0].number <= number {
		l.dropFirst()
	}
}

func (l *packetLog) dropFirst() {
	l.bytes -= len(l.queue[0].data) + overhead
	l.queue[0].data = nil
	l.queue = l.queue[1:]
}

// take empties the log.
func (l *packetLog) take() []packet {
	all := l.queue
	l.queue, l.bytes = nil, 0
	return all
}
