package relay

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
	"github.com/hamgr/hamgr/internal/mutant"
	"golang.org/x/sys/unix"
)

// maxDrain bounds Open should the guest send faster than it is read.
const maxDrain = 4 * tapdev.QueueLen

// nic is one tap with its two TAPs. What is held waits in the hold TAP's queue.
type nic struct {
	r             *Relay
	tap           *hook.Tap
	back          *hook.Tap // the release TAP
	hold, release *tapdev.Device
	progs         programs
	next          uint64 // the epoch of what is read next; guarded by Relay.sending
	kept          []byte // the oldest packet held, if it was sent too late; else nil; guarded so, too
}

func newNIC(r *Relay, name string) (n *nic, err error) {
	n = &nic{r: r}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.tap, err = hook.Find(r.h, name); err != nil {
		return n, err
	}
	if n.hold, err = tapdev.Open(r.h, hook.DeviceName("hh", name)); err != nil {
		return n, err
	}
	if n.release, err = tapdev.Open(r.h, hook.DeviceName("hr", name)); err != nil {
		return n, err
	}
	if n.progs, err = loadPrograms(n.tap.Index, n.hold.Index, r.meter.FD()); err != nil {
		return n, err
	}
	n.back = hook.On(r.h, n.release.Link())
	return n, n.back.AttachBPF(n.progs.release)
}

// end closes the epoch under way. The guest stands still: all it has sent is in the hold
// TAP's queue already.
func (n *nic) end(epoch uint64) error {
	if err := n.r.marker.end(n.hold.Index, epoch); err != nil {
		return fmt.Errorf("%w: the end of epoch %d in %s: %w", hook.ErrLost, epoch, n.hold.Name, err)
	}
	return nil
}

// letGo sends all packets up to and including an epoch. At its end so much had come in.
func (n *nic) letGo(epoch uint64, upTo level) (err error) {
	var t tally
	defer func() { n.r.settle(&t, upTo) }()
	for n.next <= epoch {
		if t.packets == tallyMost {
			n.r.settle(&t, upTo)
		}
		p, e := n.read()
		if e == unix.EAGAIN && mutant.Is(mutant.SecondBuffer) {
			return err
		}
		if e != nil {
			return errors.Join(err, fmt.Errorf("%w: the end of epoch %d is not in %s: %w", hook.ErrLost, epoch, n.hold.Name, e))
		}
		if epoch, ok := n.r.marker.ends(p); ok {
			n.next = epoch + 1
			continue
		}
		if e := n.send(p, &t); errors.Is(e, hook.ErrLate) {
			return e
		} else if e != nil {
			err = e
		}
	}
	return err
}

// letAllGo sends all there is, of whichever epoch, and whenever.
func (n *nic) letAllGo() (err error) {
	n.r.meter.shared().deadline.Store(math.MaxUint64)
	var t tally
	defer func() { n.r.settle(&t, n.r.meter.now()) }()
	for range maxDrain {
		if t.packets == tallyMost {
			n.r.settle(&t, n.r.meter.now())
		}
		p, e := n.read()
		if e == unix.EAGAIN {
			return err
		}
		if e != nil {
			return fmt.Errorf("%w: read %s: %w", hook.ErrLost, n.hold.Name, e)
		}
		if _, ok := n.r.marker.ends(p); ok {
			continue
		}
		if e := n.send(p, &t); e != nil {
			err = e
		}
	}
	return err
}

// read has the oldest packet that is held, or the end of an epoch; EAGAIN: there is none.
func (n *nic) read() ([]byte, error) {
	if n.kept != nil {
		return n.kept, nil
	}
	return n.hold.Read(n.r.buf)
}

// send writes a packet out. The error says that the release TAP takes none any more, or, ErrLate,
// that the deadline was over: then it is kept, to be read next. One that the kernel refuses
// is lost as any network loses packets, and counted.
func (n *nic) send(p []byte, t *tally) error {
	err, late := error(hook.ErrCut), &n.r.meter.shared().late
	before := late.Load()
	if !n.r.cut.Load() {
		err = n.release.Write(p)
	}
	if err == nil && late.Load() != before {
		if n.kept == nil {
			n.kept = slices.Clone(p)
		}
		return hook.ErrLate
	}
	n.kept = nil
	bytes := uint64(len(p) - tapdev.VnetLen)
	t.packets++
	t.bytes += bytes
	if err == nil {
		return nil
	}
	t.dropped++
	t.droppedBytes += bytes
	if errors.Is(err, unix.EBADFD) || errors.Is(err, unix.EIO) {
		return fmt.Errorf("%w: write %s: %w", hook.ErrLost, n.release.Name, err)
	}
	return nil
}

// close removes both TAPs, and with them the filter on the release TAP.
func (n *nic) close() {
	n.hold.Close()
	n.release.Close()
	n.progs.close()
}
