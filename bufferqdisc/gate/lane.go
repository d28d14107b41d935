package gate

import (
	"errors"
	"slices"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

// lane is one tap, with the device that its packets wait in.
type lane struct {
	tap   *hook.Tap
	wait  *tapdev.Device
	progs programs
	kept  []byte // the oldest that waits, if it was sent too late; else nil
}

// openLane readies it; nothing is changed on the tap. What it returns with an error is to
// be closed, or nil.
func openLane(h hook.Kernel, tap string, values int) (l *lane, err error) {
	l = &lane{}
	if l.tap, err = hook.Lookup(h, tap); err != nil {
		return nil, err
	}
	if l.wait, err = tapdev.Open(h, "hg%d"); err != nil {
		return l, err
	}
	if l.progs, err = loadPrograms(l.tap.Index, l.wait.Index, values); err != nil {
		return l, err
	}
	return l, hook.On(h, l.wait.Link()).AttachBPF(l.progs.back)
}

func (l *lane) close() error {
	l.wait.Close()
	return l.progs.close()
}

const (
	// turn is how many packets of a NIC an Extend sends: a millisecond's work, as other guests'
	// leases wait for it, and half of what a CPU's backlog has room for (netdev_max_backlog),
	// through which they go.
	turn = 500
	// patience is for how many turns a guest's newer packets wait behind those that wait; one
	// that sends faster than that would never have its direct path back.
	patience = 100
	// endTurns bound a Close: it finds all that there is room for, and more.
	endTurns = 2 * tapdev.QueueLen / turn
)

// level is a reading of what has come in.
type level struct{ packets, bytes uint64 }

// letGoLocked sends what waits, in the order in which it came, for a turn and not after the
// deadline, and says whether it found all devices empty.
func (g *Gate) letGoLocked() (empty bool) {
	empty = true
	for _, l := range g.lanes {
		empty = l.letGo(g.buf, g.values.Get()) && empty
	}
	return empty
}

// countLocked counts what had come in up to a level and is neither there nor gone. Only one
// that somebody changed loses anything: he may have what he wants, and late packets a place.
func (g *Gate) countLocked(s *shared, upTo level) {
	out := s.out.Load()
	if out >= upTo.packets {
		return
	}
	s.dropped.Add(upTo.packets - out)
	s.out.Store(upTo.packets)
	if b := s.outBytes.Load(); b < upTo.bytes {
		s.droppedBytes.Add(upTo.bytes - b)
		s.outBytes.Store(upTo.bytes)
	}
	for _, l := range g.lanes {
		if l.wait.Intact(g.h) != nil {
			_ = l.wait.Mend(g.h) // it is gone, or the next one that is lost says so again
		}
	}
}

// letGo sends through one small buffer and says whether nothing is left. A packet that comes
// too late is kept, to be the next one's first; one that the kernel refuses is lost, as any
// network loses packets, and counted.
func (l *lane) letGo(buf []byte, s *shared) (empty bool) {
	for range turn {
		p := l.kept
		if p == nil {
			var err error
			if p, err = l.wait.Read(buf); err != nil { // EAGAIN; or it is gone, with all that waited
				return true
			}
		}
		late := s.late.Load()
		err := l.wait.Write(p)
		if err == nil && s.late.Load() != late {
			if l.kept == nil {
				l.kept = slices.Clone(p)
			}
			return false
		}
		l.kept = nil
		bytes := uint64(len(p) - tapdev.VnetLen)
		if err != nil {
			s.dropped.Add(1)
			s.droppedBytes.Add(bytes)
		}
		s.out.Store(min(s.out.Load()+1, s.in.Load()))
		s.outBytes.Store(min(s.outBytes.Load()+bytes, s.inBytes.Load())) // it may have grown by a VLAN tag
	}
	return false
}

// passLocked gives the guest its direct path back once nothing waits. A packet is counted
// before it is in its device: one that a CPU was about to put there is found the next time,
// and what had been counted the time before and is not there is lost.
func (g *Gate) passLocked() {
	s := g.values.Get()
	in := level{s.in.Load(), s.inBytes.Load()}
	if g.letGoLocked() {
		g.countLocked(s, g.before)
		g.before = in
	} else if g.turns++; g.turns < patience {
		return
	}
	g.turns = 0
	s.waiting.Store(0)
}

// openLocked lets all go and removes the filters. What was on its way to wait meanwhile
// follows.
func (g *Gate) openLocked() error {
	drain := func() {
		for range endTurns {
			if g.letGoLocked() {
				return
			}
		}
	}
	drain()
	g.values.Get().waiting.Store(0)
	drain()
	var errs []error
	for _, l := range g.lanes {
		errs = append(errs, l.tap.DetachGate())
	}
	drain()
	return errors.Join(errs...)
}

// dropLocked throws away what waits.
func (g *Gate) dropLocked() {
	s := g.values.Get()
	for _, l := range g.lanes {
		l.kept = nil
		for range tapdev.QueueLen {
			if _, err := l.wait.Read(g.buf); err != nil {
				break
			}
		}
	}
	g.before = level{s.in.Load(), s.inBytes.Load()}
	s.dropped.Add(g.before.packets - s.out.Load())
	s.droppedBytes.Add(g.before.bytes - s.outBytes.Load())
	s.out.Store(g.before.packets)
	s.outBytes.Store(g.before.bytes)
}
