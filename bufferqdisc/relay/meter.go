package relay

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hamgr/hamgr/bufferqdisc/internal/boottime"
	"github.com/hamgr/hamgr/bufferqdisc/internal/bpfmem"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

// meter counts what waits in the hold TAPs of a relay, and keeps it within its limits: the
// programs on the taps add, who reads takes away.
type meter struct {
	*bpfmem.Value[shared]
}

// shared is the value of the programs' one map, in memory that they and we share. What is
// held is what came in without what went out again.
type shared struct {
	// The programs'.
	in, inBytes           atomic.Uint64
	dropped, droppedBytes atomic.Uint64 // over a limit
	late                  atomic.Uint64 // not handed back: the deadline was over
	_                     [24]byte      // what follows is written by another CPU
	// Ours.
	out, outBytes        atomic.Uint64
	maxPackets, maxBytes atomic.Uint64
	deadline             atomic.Uint64 // of what is released (boottime)
}

const (
	atIn           = int16(unsafe.Offsetof(shared{}.in))
	atInBytes      = int16(unsafe.Offsetof(shared{}.inBytes))
	atDropped      = int16(unsafe.Offsetof(shared{}.dropped))
	atDroppedBytes = int16(unsafe.Offsetof(shared{}.droppedBytes))
	atOut          = int16(unsafe.Offsetof(shared{}.out))
	atOutBytes     = int16(unsafe.Offsetof(shared{}.outBytes))
	atMaxPackets   = int16(unsafe.Offsetof(shared{}.maxPackets))
	atMaxBytes     = int16(unsafe.Offsetof(shared{}.maxBytes))
	atLate         = int16(unsafe.Offsetof(shared{}.late))
	atDeadline     = int16(unsafe.Offsetof(shared{}.deadline))
)

func newMeter(maxBytes int) (*meter, error) {
	v, err := bpfmem.New[shared]()
	if err != nil {
		return nil, fmt.Errorf("%w (it needs CAP_BPF and Linux 5.8)", err)
	}
	m := &meter{v}
	m.shared().maxPackets.Store(tapdev.MaxPackets)
	m.shared().maxBytes.Store(uint64(maxBytes))
	return m, nil
}

// shared is valid until close.
func (m *meter) shared() *shared { return m.Get() }

// setDeadline is for what is written from now on. ErrLate: it is over.
func (m *meter) setDeadline(until time.Time) error {
	at := boottime.Of(until)
	m.shared().deadline.Store(at)
	if boottime.Now() >= at {
		return hook.ErrLate
	}
	return nil
}

// level is a reading of what has come in.
type level struct{ packets, bytes uint64 }

func (m *meter) now() level { return level{m.shared().in.Load(), m.shared().inBytes.Load()} }

// took notes packets that were read. It never passes a level: a frame may have grown by a
// VLAN tag on its way, and more out than in would look like no room at all.
func (m *meter) took(read, upTo level) {
	s := m.shared()
	s.out.Store(min(s.out.Load()+read.packets, upTo.packets))
	s.outBytes.Store(min(s.outBytes.Load()+read.bytes, upTo.bytes))
}

// empty notes that all of a level was read, or is lost.
func (m *meter) empty(upTo level) {
	m.shared().out.Store(upTo.packets)
	m.shared().outBytes.Store(upTo.bytes)
}

func (m *meter) held() level {
	s := m.shared()
	out, outBytes := s.out.Load(), s.outBytes.Load() // first: in only grows
	return level{s.in.Load() - out, s.inBytes.Load() - outBytes}
}

// close may be called on nil.
func (m *meter) close() error {
	if m == nil {
		return nil
	}
	return m.Close()
}
