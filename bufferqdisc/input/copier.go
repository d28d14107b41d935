package input

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// shared is the value of the one map of a tap's programs, in memory that they and we
// share. The time and the switch are ours to write, the rest theirs.
type shared struct {
	numbered atomic.Uint64 // packets, and the last one's number
	skipped  atomic.Uint64 // packets before there were copies; they have no number
	failed   atomic.Uint64 // to be copied
	large    atomic.Uint64 // of those numbered or skipped
	held     atomic.Uint64 // packets that went to the waiting device, or will in an instant
	wait     atomic.Uint64 // until when packets wait: CLOCK_BOOTTIME, nanoseconds
	copies   atomic.Uint64 // 1: packets are copied; 0: skipped
}

const (
	atNumbered = unsafe.Offsetof(shared{}.numbered)
	atSkipped  = unsafe.Offsetof(shared{}.skipped)
	atFailed   = unsafe.Offsetof(shared{}.failed)
	atLarge    = unsafe.Offsetof(shared{}.large)
	atHeld     = unsafe.Offsetof(shared{}.held)
	atWait     = unsafe.Offsetof(shared{}.wait)
	atCopies   = unsafe.Offsetof(shared{}.copies)
)

// copier is the programs of one tap's copies. The kernel keeps them and their map for as
// long as a filter uses them; files and memory here are ours to close.
type copier struct {
	values       *ebpf.Map
	copy, number *ebpf.Program
	page         []byte
	last         tally // once it is closed
}

// tally is how many packets there were of each kind.
type tally struct{ numbered, skipped, failed, large uint64 }

// newCopier loads the programs that copy to the tunnel device and to the backup, and have
// packets wait at the waiting device.
func newCopier(tunnel, waiting int, to netip.Addr) (c *copier, err error) {
	c = &copier{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	c.values, err = ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(shared{})), MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return c, fmt.Errorf("BPF map (needs CAP_BPF): %w", err)
	}
	c.page, err = unix.Mmap(c.values.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return c, fmt.Errorf("map memory: %w", err)
	}
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	mark := binary.NativeEndian.Uint32(b[:]) | 1
	if c.number, err = load(numberProgram(c.values.FD(), to, mark)); err != nil {
		return c, err
	}
	c.copy, err = load(copyProgram(tunnel, waiting, c.values.FD(), mark))
	return c, err
}

// shared is valid until close.
func (c *copier) shared() *shared { return (*shared)(unsafe.Pointer(unsafe.SliceData(c.page))) }

func (c *copier) tally() tally {
	if c.page != nil {
		s := c.shared()
		c.last = tally{s.numbered.Load(), s.skipped.Load(), s.failed.Load(), s.large.Load()}
	}
	return c.last
}

// start has packets copied from now on.
func (c *copier) start() { c.shared().copies.Store(1) }

// wait has packets wait for that long, or until goOn.
func (c *copier) wait(limit time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return err
	}
	c.shared().wait.Store(uint64(now.Nano() + int64(limit)))
	return nil
}

// held is how many packets were ever sent to wait.
func (c *copier) held() uint64 {
	if c.page == nil {
		return 0
	}
	return c.shared().held.Load()
}

func (c *copier) goOn() {
	if c.page != nil {
		c.shared().wait.Store(0)
	}
}

func (c *copier) close() error {
	c.tally()
	var err error
	if c.page != nil {
		err = unix.Munmap(c.page)
		c.page = nil
	}
	return errors.Join(err, c.values.Close(), c.copy.Close(), c.number.Close()) // nil ones close
}
