package relay

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Stats counts packets and bytes; Held is now, the others since the start.
type Stats struct {
	Backend       string `json:"backend"`
	Holding       bool   `json:"holding"`
	HeldPackets   uint64 `json:"held_packets"`
	HeldBytes     uint64 `json:"held_bytes"`
	Released      uint64 `json:"released_packets"`
	ReleasedBytes uint64 `json:"released_bytes"`
	Dropped       uint64 `json:"dropped_packets"`
	DroppedBytes  uint64 `json:"dropped_bytes"`
}

// Relay buffers the output of some taps, all of one guest.
type Relay struct {
	readers sync.WaitGroup

	mu    sync.Mutex // guards all below; never held while waiting for a packet
	nics  []*nic
	epoch uint64 // the one under way
	limit int
	stats Stats
	spare []*batch
	buf   []byte
}

// nic is one tap with its two TAPs.
type nic struct {
	tap           netlink.Link
	hold, release *os.File
	holdLink      netlink.Link
	fd            int // of hold, non-blocking
	out           int // of release
	queue         []*batch
}

// batch is what one NIC sent in one epoch.
type batch struct {
	epoch uint64
	data  []byte
	ends  []int
}

// New readies a relay for these taps; packets pass them as before until Hold.
func New(taps []string, limitBytes int) (*Relay, error) {
	r := &Relay{epoch: 1, limit: limitBytes, buf: make([]byte, maxPacket), stats: Stats{Backend: "relay"}}
	for _, t := range taps {
		n, err := newNIC(t)
		if err != nil {
			r.close()
			return nil, fmt.Errorf("relay for %s: %w", t, err)
		}
		r.nics = append(r.nics, n)
	}
	for _, n := range r.nics {
		r.readers.Go(func() { r.read(n) })
	}
	return r, nil
}

func newNIC(tap string) (*nic, error) {
	link, err := netlink.LinkByName(tap)
	if err != nil {
		return nil, err
	}
	if _, others, err := filters(link); err != nil {
		return nil, err
	} else if others > 0 {
		return nil, fmt.Errorf("%d ingress filters of somebody else's are in the way; remove them (tc filter del dev %s ingress)", others, tap)
	}
	n := &nic{tap: link}
	if n.hold, n.holdLink, err = openTap(deviceName("hh", tap)); err != nil {
		return nil, err
	}
	var rel netlink.Link
	if n.release, rel, err = openTap(deviceName("hr", tap)); err != nil {
		n.hold.Close()
		return nil, err
	}
	n.fd, n.out = rawFD(n.hold), rawFD(n.release)
	if err := attach(rel, releaseProgram(link.Attrs().Index)); err != nil {
		n.hold.Close()
		n.release.Close()
		return nil, err
	}
	return n, nil
}

// rawFD is a file's descriptor without os.File.Fd's return to blocking mode.
func rawFD(f *os.File) (fd int) {
	if c, err := f.SyscallConn(); err == nil {
		c.Control(func(p uintptr) { fd = int(p) })
	}
	return fd
}

// read keeps the kernel's queue short; it ends when the file is closed.
func (r *Relay) read(n *nic) {
	c, err := n.hold.SyscallConn()
	if err != nil {
		return
	}
	c.Read(func(uintptr) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.drain(n)
		return false
	})
}

// drain reads all that waits; called with mu held. Reading and sorting into an epoch
// are one step under the lock, so no packet read before an epoch's end lands after it,
// and none of the next epoch before it.
func (r *Relay) drain(n *nic) {
	for {
		k, err := unix.Read(n.fd, r.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			return
		}
		r.add(n, r.buf[:k])
	}
}

func (r *Relay) add(n *nic, p []byte) {
	if r.stats.HeldBytes+uint64(len(p)) > uint64(r.limit) {
		r.stats.Dropped++
		r.stats.DroppedBytes += uint64(len(p))
		return
	}
	if len(n.queue) == 0 || n.queue[len(n.queue)-1].epoch != r.epoch {
		n.queue = append(n.queue, r.batch())
	}
	b := n.queue[len(n.queue)-1]
	b.data = append(b.data, p...)
	b.ends = append(b.ends, len(b.data))
	r.stats.HeldPackets++
	r.stats.HeldBytes += uint64(len(p))
}

func (r *Relay) batch() *batch {
	b := &batch{}
	if k := len(r.spare); k > 0 {
		b, r.spare = r.spare[k-1], r.spare[:k-1]
	}
	b.epoch, b.data, b.ends = r.epoch, b.data[:0], b.ends[:0]
	return b
}

// Hold redirects the taps' output here.
func (r *Relay) Hold() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nics {
		if err := attach(n.tap, holdProgram(n.holdLink.Attrs().Index)); err != nil {
			return err
		}
	}
	r.stats.Holding = true
	return nil
}

// EndEpoch closes the epoch under way and returns its number.
func (r *Relay) EndEpoch() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nics {
		r.drain(n)
	}
	r.epoch++
	return r.epoch - 1, nil
}

// Release writes out an epoch and all before it.
func (r *Relay) Release(epoch uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.releaseLocked(epoch)
}

func (r *Relay) releaseLocked(epoch uint64) error {
	for _, n := range r.nics {
		for len(n.queue) > 0 && n.queue[0].epoch <= epoch {
			b := n.queue[0]
			r.write(n, b)
			n.queue = append(n.queue[:0], n.queue[1:]...)
			if len(r.spare) < 4 && cap(b.data) < 4<<20 {
				r.spare = append(r.spare, b)
			}
		}
	}
	return nil
}

// write lets a batch go. A packet the kernel does not take is lost on the way, like any
// packet in a network, and counted.
func (r *Relay) write(n *nic, b *batch) {
	start := 0
	for _, end := range b.ends {
		p := b.data[start:end]
		start = end
		r.stats.HeldPackets--
		r.stats.HeldBytes -= uint64(len(p))
		if _, err := unix.Write(n.out, p); err != nil {
			r.stats.Dropped++
			r.stats.DroppedBytes += uint64(len(p))
			continue
		}
		r.stats.Released++
		r.stats.ReleasedBytes += uint64(len(p))
	}
}

// Open lets everything go and gives the taps their direct path back.
func (r *Relay) Open() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nics {
		r.drain(n)
	}
	if err := r.releaseLocked(r.epoch); err != nil {
		return err
	}
	var errs []error
	for _, n := range r.nics {
		errs = append(errs, detach(n.tap))
		r.drain(n)
	}
	r.stats.Holding = false
	return errors.Join(append(errs, r.releaseLocked(r.epoch))...)
}

// Stats may be called at any time.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Teardown opens the taps and removes every trace.
func (r *Relay) Teardown() error {
	err := r.Open()
	r.close()
	return err
}

// Abandon cuts the taps and drops what is held: the filter redirects to a device that
// goes away with this call.
func (r *Relay) Abandon() error {
	err := r.Hold()
	r.close()
	return err
}

func (r *Relay) close() {
	for _, n := range r.nics {
		n.hold.Close()
		n.release.Close()
	}
	r.readers.Wait()
}
