package relay

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// batch bounds how long the reader keeps an EndEpoch waiting.
	batch = 64
	// maxDrain bounds EndEpoch should the guest not stand still after all: what it
	// leaves goes to a later epoch, which is safe.
	maxDrain = 4 * queueLen
)

// counters are shared by a relay's NICs.
type counters struct {
	heldPackets, heldBytes         atomic.Int64
	released, releasedBytes        atomic.Uint64
	dropped, droppedBytes, missing atomic.Uint64 // missing: dropped by the kernel before we read it
}

// nic is one tap with its two TAPs and what it has sent.
type nic struct {
	tap           *hook.Tap
	hold, release *device
	in, out       syscall.RawConn // of hold and release
	progs         programs
	count         *counters
	limit         int64 // for counters.heldBytes
	cut           *atomic.Bool

	// mu makes reading a packet and giving it its epoch one step, so that none that was
	// sent after an epoch's end is counted to it. Held for at most batch reads while
	// the guest runs.
	mu      sync.Mutex
	epoch   uint64 // the one under way
	passing bool   // nothing is held: a straggler goes out at once
	queue   queue
	failed  error // why no packet will be read any more
}

func newNIC(h *netlink.Handle, name string, spare *spares, count *counters, limit int, cut *atomic.Bool) (n *nic, err error) {
	n = &nic{count: count, limit: int64(limit), cut: cut, epoch: 1, passing: true, queue: queue{spare: spare}}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.tap, err = hook.Find(h, name); err != nil {
		return n, err
	}
	if n.hold, err = openDevice(h, hook.DeviceName("hh", name)); err != nil {
		return n, err
	}
	if n.release, err = openDevice(h, hook.DeviceName("hr", name)); err != nil {
		return n, err
	}
	if n.in, err = n.hold.file.SyscallConn(); err != nil {
		return n, err
	}
	if n.out, err = n.release.file.SyscallConn(); err != nil {
		return n, err
	}
	if n.progs, err = loadPrograms(n.tap.Index, n.hold.link.Attrs().Index); err != nil {
		return n, err
	}
	return n, hook.On(h, n.release.link).AttachBPF(n.progs.release)
}

// run keeps the kernel's queue short until the hold TAP is closed or gone.
func (n *nic) run() {
	n.in.Read(func(fd uintptr) bool {
		for {
			more, err := n.read(int(fd), batch)
			if err != nil || !more {
				return err != nil
			}
		}
	})
}

// end closes the epoch under way. The guest stands still: all it has sent is in the
// hold TAP or in the queue already.
func (n *nic) end() (err error) {
	_, err = n.drain()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.epoch++
	return err
}

// drain reads what waits in the hold TAP.
func (n *nic) drain() (more bool, err error) {
	e := n.in.Control(func(fd uintptr) { more, err = n.read(int(fd), maxDrain) })
	return more, errors.Join(err, e)
}

// read reads up to max packets and says whether there may be more.
func (n *nic) read(fd, max int) (more bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range max {
		if n.failed != nil {
			return false, n.failed
		}
		room := n.queue.room()
		k, err := unix.Read(fd, room)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, nil
		case err != nil:
			n.failed = fmt.Errorf("%w: read %s: %w", hook.ErrLost, n.hold.file.Name(), err)
		case n.passing:
			n.write(int64(k-vnetLen), room[:k])
		default:
			n.keepLocked(k)
		}
	}
	return true, nil
}

func (n *nic) keepLocked(size int) {
	bytes := int64(size - vnetLen)
	if n.count.heldBytes.Add(bytes) > n.limit {
		n.count.heldBytes.Add(-bytes)
		n.count.dropped.Add(1)
		n.count.droppedBytes.Add(uint64(bytes))
		return
	}
	n.count.heldPackets.Add(1)
	n.queue.keep(size, n.epoch)
}

// letGo writes out all packets up to and including an epoch.
func (n *nic) letGo(epoch uint64) error {
	n.mu.Lock()
	runs := n.queue.take(epoch)
	n.mu.Unlock()
	return n.writeRuns(runs)
}

// letAllGo writes out everything; from then on the reader passes packets on at once.
func (n *nic) letAllGo() error {
	if _, err := n.drain(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.passing = true
	return n.writeRuns(n.queue.take(n.epoch))
}

func (n *nic) keepFromNow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.passing = false
}

// writeRuns returns an error when the release TAP takes no packets any more. A packet
// that the kernel refuses is lost as any network loses packets, and counted.
func (n *nic) writeRuns(runs []run) (err error) {
	for _, r := range runs {
		at := 0
		for _, p := range r.packets {
			bytes := int64(p.size - vnetLen)
			n.count.heldPackets.Add(-1)
			n.count.heldBytes.Add(-bytes)
			if e := n.write(bytes, r.data[at:at+p.size]); e != nil {
				err = e
			}
			at += p.size
		}
		if r.whole != nil {
			n.queue.spare.put(r.whole)
		}
	}
	return err
}

func (n *nic) write(bytes int64, p []byte) error {
	err := error(hook.ErrCut)
	if !n.cut.Load() {
		if e := n.out.Control(func(fd uintptr) { err = write(int(fd), p) }); e != nil {
			err = e
		}
	}
	if err == nil {
		n.count.released.Add(1)
		n.count.releasedBytes.Add(uint64(bytes))
		return nil
	}
	n.count.dropped.Add(1)
	n.count.droppedBytes.Add(uint64(bytes))
	if errors.Is(err, unix.EBADFD) || errors.Is(err, unix.EIO) {
		return fmt.Errorf("%w: write %s: %w", hook.ErrLost, n.release.file.Name(), err)
	}
	return nil
}

func write(fd int, p []byte) error {
	for {
		if _, err := unix.Write(fd, p); err != unix.EINTR {
			return err
		}
	}
}

// discard drops what is held.
func (n *nic) discard() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.writeRuns(n.queue.take(n.epoch)) // cut: counts and drops
}

// close removes both TAPs, and with them the filter on the release TAP.
func (n *nic) close() {
	var files []*os.File
	for _, d := range []*device{n.hold, n.release} {
		if d != nil {
			files = append(files, d.file)
		}
	}
	for _, f := range files {
		f.Close()
	}
	n.progs.close()
}
