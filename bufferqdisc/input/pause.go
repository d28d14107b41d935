package input

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// drainFor bounds the wait for a guest to take what is in its taps' queues: QEMU may have
	// to wait for a processor. A guest whose network sends more than it takes never does;
	// there each wait in vain halves the next one, down to the least, until one is not.
	drainFor   = 50 * time.Millisecond
	drainLeast = time.Millisecond
	drainFirst = 50 * time.Microsecond // until the second look; each takes twice as long as the one before
	drainEvery = time.Millisecond      // at most
)

// ErrQueued: the guest has not taken all of what came before a Pause.
var ErrQueued = errors.New("packets are still in the tap's queue")

// Pause has what comes for the guest wait, for at most that long, until Resume; it is
// copied to the backup all the same. While QEMU stops a guest it takes a packet in that it
// then throws away (net/net.c in its sources, net_vm_change_state_handler): one for each
// NIC and checkpoint, unless none comes and none is in the tap's queue. So Pause returns
// when the guest has taken those, or with ErrQueued when that takes too long. After another
// error the guest gets its packets as ever.
func (m *Mirror) Pause(limit time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	var errs []error
	queued := make([]uint64, len(m.sources))
	for i, s := range m.sources {
		// What comes between the two may be queued or wait: then drain may wait in vain.
		errs = append(errs, s.look(m.h), s.copier.wait(limit))
		queued[i], _, _ = s.copier.counters()
	}
	end := time.Now().Add(m.patience)
	var err error
	for i, s := range m.sources {
		err = errors.Join(err, s.drain(m.h, queued[i], end))
	}
	if errors.Is(err, ErrQueued) {
		m.patience = max(m.patience/2, drainLeast)
	} else {
		m.patience = drainFor
	}
	return errors.Join(append(errs, err)...)
}

// drain returns when the guest has taken the packets up to a number.
func (s *source) drain(h kernel, number uint64, end time.Time) error {
	for wait := drainFirst; s.account != nil && s.account.taken < number; wait = min(2*wait, drainEvery) {
		if time.Now().After(end) {
			return fmt.Errorf("%w: %s", ErrQueued, s.tap.Name)
		}
		time.Sleep(wait)
		if err := s.look(h); err != nil {
			return err
		}
	}
	return nil
}

// Resume lets the guest have what waits, in order, and what comes then.
func (m *Mirror) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.resumeLocked()
	}
}

func (m *Mirror) resumeLocked() {
	until := time.Now().Add(m.patience)
	for _, s := range m.sources {
		s.letGo(until)
		s.copier.goOn()
		s.letGo(until) // what came in between
	}
}

// letGo hands on what waits. A long wait fills more than the tap's queue: it has until then
// to be read. What does not fit it after that is dropped, as it would have been without
// waiting; the tap counts it.
func (s *source) letGo(until time.Time) {
	buf := make([]byte, vnetSize+maxFrame)
	drain(s.waiting.raw, func(fd, max int) bool {
		return each(fd, max, buf, func(packet []byte) {
			for {
				_, err := unix.Write(s.send, packet)
				if err != unix.ENOBUFS && err != unix.EAGAIN || time.Now().After(until) {
					return
				}
				time.Sleep(drainFirst)
			}
		})
	})
}
