package gate

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/boottime"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/internal/mutant"
)

// ErrWallClock: a deadline without a monotonic reading; a step of the clock would move it.
var ErrWallClock = errors.New("the deadline is not on the monotonic clock; make it by time.Now().Add")

// Gate is a deadline for the output of some taps, all of one guest. Its methods may be
// called from any goroutine.
type Gate struct {
	mu   sync.Mutex // guards all
	h    hook.Kernel
	taps []*hook.Tap
	p    *program
	last Stats // of before p was closed
	end  error // why it can be used no more, or nil
}

// Stats says whether a gate is open now, and counts what it dropped since New.
type Stats struct {
	Open         bool   `json:"open"`
	Dropped      uint64 `json:"dropped_packets"`
	DroppedBytes uint64 `json:"dropped_bytes"`
}

// New puts a gate on these taps that is open until a time, closed with the zero Time. A
// gate that is there already, an earlier process's too, gives way to it in one step.
// After an error every tap has the gate it had before or the new one, which closes at
// that time and which Clear removes; one that had none has none. The handle is
// its own from now on.
func New(h hook.Kernel, taps []string, until time.Time) (g *Gate, err error) {
	g = &Gate{h: h}
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
	if g.p, err = load(); err != nil {
		return g, err
	}
	if err := g.Extend(until); err != nil {
		return g, err
	}
	for _, name := range taps {
		t, err := hook.Lookup(g.h, name)
		if err != nil {
			return g, err
		}
		g.taps = append(g.taps, t)
	}
	for _, t := range g.taps {
		had, err := t.HasGate()
		if err == nil {
			err = t.AttachGate(g.p.prog)
		}
		if err != nil {
			return g, err
		}
		if !had {
			fresh = append(fresh, t)
		}
	}
	return g, nil
}

// Extend opens the gate until a time and not longer; the zero Time or one that has
// passed closes it now. All taps see it at once. ErrWallClock refuses a time that has no
// monotonic reading.
func (g *Gate) Extend(until time.Time) error {
	var at uint64
	if !until.IsZero() {
		if until == until.Round(0) {
			return ErrWallClock
		}
		at = boottime.Of(until)
		if mutant.Is(mutant.LeaseWithoutFencing) && time.Until(until) > 0 {
			at = math.MaxUint64
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end != nil {
		return g.end
	}
	g.p.shared().deadline.Store(at)
	return nil
}

// Stats may be called at any time.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.statsLocked()
}

func (g *Gate) statsLocked() Stats {
	if g.end == nil {
		s := g.p.shared()
		g.last = Stats{
			Open:    boottime.Now() < s.deadline.Load(),
			Dropped: s.dropped.Load(), DroppedBytes: s.droppedBytes.Load(),
		}
	}
	return g.last
}

// Close removes the gate: from now on the taps are open, or as the buffer has them.
// Only with the cluster's leave. After an error some taps may have their gate still,
// and Close may be called again.
func (g *Gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end != nil {
		return nil
	}
	var errs []error
	for _, t := range g.taps {
		errs = append(errs, t.DetachGate())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the gate: %w", err)
	}
	g.statsLocked()
	g.last.Open, g.end = false, hook.ErrClosed
	return g.shutLocked()
}

// Abandon closes the gate for good; nothing passes until Clear or another gate takes
// its place. After a Close it does nothing. It does not fail.
func (g *Gate) Abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end != nil {
		return
	}
	g.p.shared().deadline.Store(0)
	g.statsLocked()
	g.end = hook.ErrCut
	g.shutLocked()
}

func (g *Gate) shutLocked() (err error) {
	if g.p != nil {
		err = g.p.close()
	}
	g.h.Delete()
	return err
}
