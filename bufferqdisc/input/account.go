package input

import "time"

// counters are those of a tap, and of the filter before it, at one moment. Read, dropped
// and waiting must have been read before numbered.
type counters struct {
	numbered uint64 // packets skipped or copied, and about to enter the tap's queue or to wait
	waiting  uint64 // of them the newest, nearly, which do not enter the queue for now
	large    uint64 // of them larger than the network takes (GSO)
	read     uint64 // packets read out of the queue: the tap's tx_packets (drivers/net/tun.c, tun_do_read)
	dropped  uint64 // packets the tap did not take: tx_dropped, less what was tried again
}

// maxAge is how long a copy is kept when the counters do not add up: packets that were in
// the queue when its reader closed it are neither read nor dropped. After a second the
// guest has had the packet or never will.
const maxAge = time.Second

// account works out which packets the guest has taken, by numbers that begin with the ones
// skipped. It errs on the side of those that
// it has taken without us being sure.
//
// A large packet enters the queue whole if the guest has the offload, and in pieces if not.
// Which, is not known: then more may have been read than were numbered. So for maxAge after
// one the counters alone do not do, and the guest must have had an epoch more.
//
// skew corrects what numbered does not know of. Packets that were queued before the first
// number, or past the filter, are read all the same: when more seem to have been read than
// were queued, those are the difference. Packets that vanished are never read: when they
// seem to have been waiting for longer than maxAge, those are the difference.
type account struct {
	base   counters
	skew   int64
	large  time.Time // until when that is so
	points []point   // not yet taken, oldest first
	queued uint64    // the packets up to it have entered the queue, or are about to
	taken  uint64
	seen   uint64 // counters.large
}

// point is a moment at which the packets up to a number had entered the queue, or been dropped.
type point struct {
	number  uint64
	entered int64 // of them in the queue at most
	at      time.Time
}

func newAccount(base counters) *account { return &account{base: base, seen: base.large} }

// look takes the counters of now and returns the highest number that the guest, with all
// before it, has taken for certain.
func (a *account) look(now time.Time, c counters) uint64 {
	read := int64(c.read - a.base.read)
	a.queued = c.numbered - min(c.waiting, c.numbered-a.base.numbered) // a packet that could not be copied waits too
	entered := int64(a.queued-a.base.numbered) - int64(c.dropped-a.base.dropped)
	a.skew = max(a.skew, read-entered)
	if c.large != a.seen {
		a.seen, a.large = c.large, now.Add(maxAge)
	}
	// A packet on its way was taken for one that enters the queue. Then it waited, or was dropped.
	for i := len(a.points) - 1; i >= 0 && (a.points[i].number > a.queued || a.points[i].entered > entered); i-- {
		a.points[i].entered = min(a.points[i].entered, entered)
		if a.points[i].number > a.queued {
			a.points = a.points[:i]
		}
	}
	a.points = append(a.points, point{a.queued, entered, now})
	for len(a.points) > 0 {
		p := a.points[0]
		if p.at.Equal(now) && now.Before(a.large) {
			break
		}
		if late := p.entered - (read - a.skew); late > 0 {
			if now.Sub(p.at) < maxAge {
				break
			}
			a.skew -= late
		}
		a.taken, a.points = max(a.taken, p.number), a.points[1:]
	}
	return a.taken
}
