package gate

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/boottime"
	"github.com/hamgr/hamgr/bufferqdisc/internal/bpfmem"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
	"github.com/hamgr/hamgr/internal/mutant"
)

// ErrWallClock: a deadline without a monotonic reading; a step of the clock would move it.
var ErrWallClock = errors.New("the deadline is not on the monotonic clock; make it by time.Now().Add")

// Gate is a deadline for the output of some taps, all of one guest. Its methods may be
// called from any goroutine.
type Gate struct {
	ending atomic.Bool // by Close or Abandon; Extend does not wait for them
	mu     sync.Mutex  // guards the rest
	h      hook.Kernel
	values *bpfmem.Value[shared]
	lanes  []*lane
	buf    []byte
	turns  int   // of Extend since it found that nothing waits
	before level // had come in when nothing waited
	last   Stats // of before values was closed
	end    error // why it can be used no more, or nil
}

// Stats says whether a gate is open now, and counts what waits for it to be, and what it
// dropped since New: beyond 32 MiB or 31,000 packets, refused by the kernel, lost with a
// device that somebody removed, or by Drop and Abandon. A large (GSO) packet counts as one.
type Stats struct {
	Open         bool   `json:"open"`
	HeldPackets  uint64 `json:"held_packets"`
	HeldBytes    uint64 `json:"held_bytes"`
	Dropped      uint64 `json:"dropped_packets"`
	DroppedBytes uint64 `json:"dropped_bytes"`
}

// New puts a gate on these taps that is open until a time, closed with the zero Time. A
// gate that is there already, an earlier process's too, gives way to it in one step.
// After an error every tap has the gate it had before or the new one, which closes at
// that time and which Clear removes; one that had none has none. The handle is
// its own from now on.
func New(h hook.Kernel, taps []string, until time.Time) (g *Gate, err error) {
	g = &Gate{h: h, buf: make([]byte, tapdev.MaxRead)}
	var fresh []*hook.Tap
	defer func() {
		if err != nil {
			for _, t := range fresh {
				err = errors.Join(err, t.DetachGate())
			}
			g.shutLocked()
			g, err = nil, fmt.Errorf("gate: %w", err)
		}
	}()
	if g.values, err = bpfmem.New[shared](); err != nil {
		return g, fmt.Errorf("%w (it needs CAP_BPF and Linux 5.8)", err)
	}
	if err := g.Extend(until); err != nil {
		return g, err
	}
	for _, name := range taps {
		l, err := openLane(g.h, name, g.values.FD())
		if l != nil {
			g.lanes = append(g.lanes, l)
		}
		if err != nil {
			return g, err
		}
	}
	for _, l := range g.lanes {
		had, err := l.tap.HasGate()
		if err == nil {
			err = l.tap.AttachGate(l.progs.gate)
		}
		if err != nil {
			return g, err
		}
		if !had {
			fresh = append(fresh, l.tap)
		}
	}
	return g, nil
}

// Extend opens the gate until a time and not longer; the zero Time or one that has
// passed closes it now. All taps see it at once, and what has waited goes first, by several
// Extends if it is much: each lets 500 packets of a NIC go. It does nothing while another call
// ends the gate. ErrWallClock refuses a time that has no monotonic reading.
func (g *Gate) Extend(until time.Time) error {
	at := boottime.Now()
	if !until.IsZero() {
		if until == until.Round(0) {
			return ErrWallClock
		}
		at = max(at, boottime.Of(until))
		if mutant.Is(mutant.LeaseWithoutFencing) && time.Until(until) > 0 {
			at = math.MaxUint64
		}
	}
	if !g.lockUnlessEnding() {
		return nil
	}
	defer g.mu.Unlock()
	if g.end != nil {
		return g.end
	}
	g.values.Get().deadline.Store(at) // one store: no program sees half of it
	if boottime.Now() < at {
		g.passLocked()
	}
	return nil
}

func (g *Gate) lockUnlessEnding() bool {
	if g.ending.Load() {
		return g.mu.TryLock()
	}
	g.mu.Lock()
	return true
}

// Stats may be called at any time.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.statsLocked()
}

func (g *Gate) statsLocked() Stats {
	if g.end == nil {
		s := g.values.Get()
		out, outBytes := s.out.Load(), s.outBytes.Load() // first: in only grows
		g.last = Stats{
			Open:        boottime.Now() < s.deadline.Load(),
			HeldPackets: s.in.Load() - out, HeldBytes: s.inBytes.Load() - outBytes,
			Dropped: s.dropped.Load(), DroppedBytes: s.droppedBytes.Load(),
		}
	}
	return g.last
}

// Drop closes the gate until the next Extend and drops what waits: nothing that the guest
// has said so far leaves any more. It does not fail.
func (g *Gate) Drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end == nil {
		g.values.Get().deadline.Store(boottime.Now())
		g.dropLocked()
	}
}

// Close removes the gate: from now on the taps are open, or as the buffer has them, which
// gets what waits. Only with the cluster's leave. After an error some taps may have their
// gate still, with the deadline it had, and Close may be called again.
func (g *Gate) Close() error {
	g.ending.Store(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end != nil {
		return nil
	}
	deadline := g.values.Get().deadline.Swap(math.MaxUint64)
	if err := g.openLocked(); err != nil {
		g.values.Get().deadline.Store(deadline)
		g.ending.Store(false)
		return fmt.Errorf("remove the gate: %w", err)
	}
	g.dropLocked() // counts what is lost
	g.statsLocked()
	g.last.Open, g.end = false, hook.ErrClosed
	return g.shutLocked()
}

// Abandon closes the gate for good and drops what waits; nothing passes until Clear or
// another gate takes its place. After a Close it does nothing. It does not fail.
func (g *Gate) Abandon() {
	g.ending.Store(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end != nil {
		return
	}
	g.values.Get().deadline.Store(0)
	g.dropLocked()
	g.statsLocked()
	g.end = hook.ErrCut
	g.shutLocked()
}

func (g *Gate) shutLocked() error {
	var errs []error
	for _, l := range g.lanes {
		errs = append(errs, l.close())
	}
	errs = append(errs, g.values.Close())
	g.h.Delete()
	return errors.Join(errs...)
}
