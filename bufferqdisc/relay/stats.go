package relay

import (
	"sync/atomic"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
)

// counters are of packets that were read and are held no more.
type counters struct{ released, releasedBytes, dropped, droppedBytes atomic.Uint64 }

// tally counts packets that were read and are held no more, dropped ones among them, until
// they are settled: what counts is read by the programs on another CPU at each packet.
type tally struct{ packets, bytes, dropped, droppedBytes uint64 }

// tallyMost is how many packets may wait to be settled: so much less may be held.
const tallyMost = 64

// settle counts what was read, of what had come in up to a level, and empties the tally.
func (r *Relay) settle(t *tally, upTo level) {
	r.meter.took(level{t.packets, t.bytes}, upTo)
	r.count.released.Add(t.packets - t.dropped)
	r.count.releasedBytes.Add(t.bytes - t.droppedBytes)
	r.count.dropped.Add(t.dropped)
	r.count.droppedBytes.Add(t.droppedBytes)
	*t = tally{}
}

// Stats may be called at any time.
func (r *Relay) Stats() hook.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == cut || r.state == closed {
		return r.last
	}
	return r.statsLocked()
}

func (r *Relay) statsLocked() hook.Stats {
	c, m, held := &r.count, r.meter.shared(), r.meter.held()
	return hook.Stats{
		Backend: "relay", Holding: r.state == holding,
		HeldPackets: held.packets, HeldBytes: held.bytes,
		Released: c.released.Load(), ReleasedBytes: c.releasedBytes.Load(),
		Dropped:      c.dropped.Load() + m.dropped.Load() + r.missingLocked(),
		DroppedBytes: c.droppedBytes.Load() + m.droppedBytes.Load(),
	}
}

// missingLocked asks the kernel what the hold TAPs' queues had no room for.
func (r *Relay) missingLocked() (sum uint64) {
	for _, n := range r.nics {
		if l, err := r.h.LinkByIndex(n.hold.Index); err == nil && l.Attrs().Statistics != nil {
			sum += l.Attrs().Statistics.TxDropped
		}
	}
	return sum
}
