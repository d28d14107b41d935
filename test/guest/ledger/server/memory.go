package server

import (
	"bufio"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	reserveMB = 12                    // left free by every request for memory
	maxRate   = 1 << 20               // pages a second; more than any guest here can do
	step      = 10 * time.Millisecond // the dirtier wakes no more often
	maxStep   = 5 * step              // what a late wake-up, after a pause say, makes up for
)

// memory is what the guest holds for a test: a region that stays as it is, and one that
// is dirtied at a rate. Not dirtying, it has no goroutine and no timer.
type memory struct {
	control sync.Mutex    // one request at a time; held while the dirtier is stopped
	stop    chan struct{} // closed to stop the dirtier; nil when there is none
	done    chan struct{} // closed by the dirtier

	mu      sync.Mutex // guards what follows, between dirtier and checksum
	held    *region
	dirtied *region
	rate    int    // pages a second
	writes  uint64 // pages rewritten since the start
}

// MemoryState tells what is held.
type MemoryState struct {
	HeldMB      int    `json:"held_mb"`         // by /alloc
	DirtyMB     int    `json:"dirty_mb"`        // the region that /dirty works on
	PagesPerSec int    `json:"pages_per_s"`     // wanted rate
	Rewritten   uint64 `json:"rewritten"`       // pages, since the start
	Checksum    string `json:"crc64,omitempty"` // of both regions, by /checksum only
}

func newMemory() *memory {
	return &memory{held: &region{seed: heldSeed}, dirtied: &region{seed: dirtySeed}}
}

// Any two numbers that differ.
const heldSeed, dirtySeed = 0x68656c64, 0x6469727479

// alloc holds mb MiB from now on, in place of what it held; 0 frees.
func (m *memory) alloc(mb int) error {
	m.control.Lock()
	defer m.control.Unlock()
	return m.replace(&m.held, mb)
}

// dirty rewrites rate pages a second of mb MiB from now on, one after the other; rate 0
// stops, mb < 0 keeps the region there is (16 MiB if there is none).
func (m *memory) dirty(rate, mb int) error {
	if rate < 0 || rate > maxRate {
		return fmt.Errorf("pages_per_s=%d: want 0 to %d", rate, maxRate)
	}
	m.control.Lock()
	defer m.control.Unlock()
	m.halt()
	if mb < 0 {
		mb = m.dirtied.mb()
	}
	if mb == 0 && rate > 0 {
		mb = 16
	}
	if err := m.replace(&m.dirtied, mb); err != nil {
		return err
	}
	if rate == 0 {
		return nil
	}
	m.mu.Lock()
	m.rate = rate
	m.mu.Unlock()
	m.stop, m.done = make(chan struct{}), make(chan struct{})
	go m.run(rate, m.stop, m.done)
	return nil
}

// replace changes the size of a region; its content starts anew. The caller has control.
func (m *memory) replace(at **region, mb int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *at
	if mb == old.mb() {
		return nil
	}
	if mb > old.mb() {
		free, err := availableMB()
		if err != nil {
			return err
		}
		if most := free + old.mb() - reserveMB; mb > most {
			return fmt.Errorf("mb=%d: want 0 to %d, or the kernel kills the ledger for want of memory", mb, max(most, 0))
		}
	}
	if err := old.free(); err != nil {
		return err
	}
	r, err := newRegion(mb, old.seed)
	if err != nil {
		return err
	}
	*at = r
	return nil
}

// run rewrites pages until stopped.
func (m *memory) run(rate int, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(max(step, time.Second/time.Duration(rate)))
	defer tick.Stop()
	last, due, next := time.Now(), 0.0, 0
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			due += min(now.Sub(last), max(maxStep, time.Second/time.Duration(rate))).Seconds() * float64(rate)
			last = now
		}
		m.mu.Lock()
		for ; due >= 1; due-- {
			m.dirtied.rewrite(next)
			m.writes++
			next = (next + 1) % len(m.dirtied.versions)
		}
		m.mu.Unlock()
	}
}

// halt stops the dirtier and waits for it. The caller has control.
func (m *memory) halt() {
	if m.stop == nil {
		return
	}
	close(m.stop)
	<-m.done
	m.stop, m.done = nil, nil
	m.mu.Lock()
	m.rate = 0
	m.mu.Unlock()
}

// verify checks every page of both regions; dirtying waits meanwhile.
func (m *memory) verify() (MemoryState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum, err := m.held.checksum(0)
	if err != nil {
		return MemoryState{}, fmt.Errorf("held region: %w", err)
	}
	if sum, err = m.dirtied.checksum(sum); err != nil {
		return MemoryState{}, fmt.Errorf("dirtied region: %w", err)
	}
	s := m.stateLocked()
	s.Checksum = fmt.Sprintf("%016x", sum)
	return s, nil
}

func (m *memory) state() MemoryState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stateLocked()
}

func (m *memory) stateLocked() MemoryState {
	return MemoryState{HeldMB: m.held.mb(), DirtyMB: m.dirtied.mb(), PagesPerSec: m.rate, Rewritten: m.writes}
}

func (m *memory) close() error {
	if err := m.dirty(0, 0); err != nil {
		return err
	}
	return m.alloc(0)
}

// availableMB is the kernel's own estimate of what can be had without harm.
func availableMB() (int, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("how much memory is free: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kb int
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kb); n == 1 {
			return kb >> 10, nil
		}
	}
	return 0, fmt.Errorf("how much memory is free: no MemAvailable in %s", f.Name())
}
