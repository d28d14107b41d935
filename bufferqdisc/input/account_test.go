package input

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// simTap is a tap's queue, with the kernel's counters and what it does not count.
type simTap struct {
	queue    []uint64 // numbers, 0 for a packet without one
	waiting  []uint64
	pause    bool     // new ones wait
	flight   []uint64 // numbered, and not yet in either
	c        counters
	got      map[uint64]bool // read, dropped or vanished: the guest will not get it any more
	capacity int
}

func (s *simTap) send(numbered bool) {
	var n uint64
	if numbered {
		s.c.numbered++
		n = s.c.numbered
	}
	s.enter(n)
}

// depart numbers a packet; land has it go on.
func (s *simTap) depart() {
	s.c.numbered++
	s.flight = append(s.flight, s.c.numbered)
}

func (s *simTap) land() {
	for _, n := range s.flight {
		if s.pause {
			s.c.waiting++
			s.waiting = append(s.waiting, n)
		} else {
			s.enter(n)
		}
	}
	s.flight = nil
}

func (s *simTap) resume() {
	s.c.waiting, s.pause = 0, false
	for _, n := range s.waiting {
		s.enter(n)
	}
	s.waiting = nil
}

func (s *simTap) enter(n uint64) {
	if len(s.queue) == s.capacity {
		s.c.dropped++
		s.got[n] = true
		return
	}
	s.queue = append(s.queue, n)
}

func (s *simTap) read(n int) {
	for range min(n, len(s.queue)) {
		s.got[s.queue[0]] = true
		s.queue = s.queue[1:]
		s.c.read++
	}
}

// TestOnlyWhatTheGuestHasIsTaken: whatever was queued before, dropped or slow in being
// read, and whatever waited or was on its way, no packet that is still in the queue is called
// taken; and when the queue is empty all that did not wait is taken.
func TestOnlyWhatTheGuestHasIsTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &simTap{got: map[uint64]bool{}, capacity: rapid.IntRange(1, 8).Draw(t, "capacity")}
		a := newAccount(s.c)
		if rapid.Bool().Draw(t, "used before") { // with its queue empty: TestQueuedBefore has the rest
			for range 5 {
				s.send(false)
			}
			s.read(8)
			a = newAccount(s.c)
		}
		now := time.Now()
		last := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				for range rapid.IntRange(1, 6).Draw(t, "n") {
					s.depart()
				}
				if rapid.Bool().Draw(t, "landed") {
					s.land()
				}
			},
			"pause":  func(t *rapid.T) { s.pause = true },
			"land":   func(t *rapid.T) { s.land() },
			"resume": func(t *rapid.T) { s.land(); s.resume() },
			"read":   func(t *rapid.T) { s.read(rapid.IntRange(1, 6).Draw(t, "n")) },
			"look": func(t *rapid.T) {
				now = now.Add(10 * time.Millisecond)
				taken := a.look(now, s.c)
				if taken < last {
					t.Fatalf("taken went back from %d to %d", last, taken)
				}
				last = taken
				for n := uint64(1); n <= taken; n++ {
					if !s.got[n] {
						t.Fatalf("taken %d, and %d is still in the queue %v", taken, n, s.queue)
					}
				}
				if all := s.c.numbered - uint64(len(s.waiting)); len(s.queue)+len(s.flight) == 0 && taken != all {
					t.Fatalf("taken %d of %d with an empty queue", taken, all)
				}
			},
		})
	})
}

// TestQueuedBefore: packets queued before the first number are not taken for numbered ones
// once the queue has been seen empty.
func TestQueuedBefore(t *testing.T) {
	s := &simTap{got: map[uint64]bool{}, capacity: 100}
	for range 10 {
		s.send(false)
	}
	a := newAccount(s.c)
	now := time.Now()
	s.read(10)
	a.look(now, s.c) // finds more read than were numbered
	for range 20 {
		s.send(true)
	}
	s.read(15)
	if taken := a.look(now, s.c); taken != 0 {
		t.Fatalf("taken %d with numbers 16..20 in the queue", taken)
	}
	s.read(5)
	if taken := a.look(now, s.c); taken != 20 {
		t.Fatalf("taken %d of 20, all read", taken)
	}
}

// TestLargePackets: pieces of large packets that were read are not mistaken for the packets
// behind them.
func TestLargePackets(t *testing.T) {
	a := newAccount(counters{})
	now := time.Now()
	c := counters{numbered: 10, large: 1} // the first in ten pieces, of which each was read
	c.read = 10
	if taken := a.look(now, c); taken != 0 {
		t.Fatalf("taken %d, nine packets are in the queue", taken)
	}
	c.read = 19
	now = now.Add(time.Millisecond)
	if taken := a.look(now, c); taken != 10 {
		t.Fatalf("taken %d of 10, all read", taken)
	}
	c.numbered = 12 // in the queue
	now = now.Add(maxAge)
	if taken := a.look(now, c); taken != 10 {
		t.Fatalf("taken %d; 11 and 12 are in the queue", taken)
	}
	c.read += 2
	if taken := a.look(now.Add(time.Millisecond), c); taken != 12 {
		t.Fatalf("taken %d of 12, all read", taken)
	}
}

// TestNotCopied: a packet without a number waits like others.
func TestNotCopied(t *testing.T) {
	a := newAccount(counters{})
	if taken := a.look(time.Now(), counters{waiting: 1}); taken != 0 {
		t.Errorf("taken %d of none", taken)
	}
}

// TestVanished: packets that are neither read nor dropped hold the account up for maxAge,
// and the next ones no more.
func TestVanished(t *testing.T) {
	s := &simTap{got: map[uint64]bool{}, capacity: 100}
	a := newAccount(s.c)
	now := time.Now()
	for range 10 {
		s.send(true)
	}
	s.queue = nil // as when the reader closes its file
	if taken := a.look(now, s.c); taken != 0 {
		t.Fatalf("taken %d, none read", taken)
	}
	if taken := a.look(now.Add(maxAge), s.c); taken != 10 {
		t.Fatalf("taken %d of 10 after %v", taken, maxAge)
	}
	s.send(true)
	if taken := a.look(now.Add(maxAge), s.c); taken != 10 {
		t.Fatalf("taken %d, 11 is in the queue", taken)
	}
	s.read(1)
	if taken := a.look(now.Add(maxAge), s.c); taken != 11 {
		t.Fatalf("taken %d of 11, all read", taken)
	}
}
