package gate

import (
	"errors"

	"github.com/hamgr/hamgr/bufferqdisc/internal/boottime"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

// lane is one tap, with the device that its packets wait in.
type lane struct {
	tap   *hook.Tap
	wait  *tapdev.Device
	progs programs
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
	// mostAtOnce is how many packets of a NIC one call lets go, as others may wait for it:
	// some milliseconds' work.
	mostAtOnce = 4096
	// patience is for how many calls a guest's newer packets wait behind those that wait;
	// one that sends faster than that would never have its direct path back.
	patience = 8
)

// letGoLocked sends what waits, up to so many of each NIC and not after the deadline, in the
// order in which it came, and says whether that was all. What has not come to its TAP yet,
// because a CPU is about to put it there, is left for the next time.
func (g *Gate) letGoLocked(most int) (all bool) {
	s := g.values.Get()
	in, inBytes := s.in.Load(), s.inBytes.Load()
	if s.out.Load() == in && s.waiting.Load() == 0 {
		return true
	}
	all = true
	for _, l := range g.lanes {
		packets, bytes, empty := l.letGo(g.buf, most, s)
		s.out.Store(min(s.out.Load()+packets, s.in.Load()))
		s.outBytes.Store(min(s.outBytes.Load()+bytes, s.inBytes.Load())) // a frame may have grown by a VLAN tag
		all = all && empty
	}
	if all { // of those that had come in then, the rest is lost
		s.out.Store(max(s.out.Load(), in))
		s.outBytes.Store(max(s.outBytes.Load(), inBytes))
	}
	return all
}

// letGo sends through one small buffer. A packet that the kernel refuses is lost, as any
// network loses packets.
func (l *lane) letGo(buf []byte, most int, s *shared) (packets, bytes uint64, empty bool) {
	for range most {
		if boottime.Now() >= s.deadline.Load() {
			return packets, bytes, false
		}
		p, err := l.wait.Read(buf)
		if err != nil { // EAGAIN; or somebody removed the device, and nothing waits there any more
			return packets, bytes, true
		}
		packets++
		bytes += uint64(len(p) - tapdev.VnetLen)
		if l.wait.Write(p) != nil {
			s.dropped.Add(1)
			s.droppedBytes.Add(uint64(len(p) - tapdev.VnetLen))
		}
	}
	return packets, bytes, false
}

// passLocked gives the guest its direct path back once nothing waits.
func (g *Gate) passLocked() {
	if !g.letGoLocked(mostAtOnce) {
		if g.waited++; g.waited < patience {
			return
		}
	}
	g.waited = 0
	g.values.Get().waiting.Store(0)
	g.letGoLocked(mostAtOnce)
}

// openLocked lets all go and removes the filters.
func (g *Gate) openLocked() error {
	for range patience {
		if g.letGoLocked(tapdev.QueueLen) {
			break
		}
	}
	g.values.Get().waiting.Store(0)
	var errs []error
	for _, l := range g.lanes {
		errs = append(errs, l.tap.DetachGate())
	}
	g.letGoLocked(tapdev.QueueLen)
	return errors.Join(errs...)
}
