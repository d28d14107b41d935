package input

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// drainFor bounds the wait for a guest to take what is in its taps' queues, and so how much
	// longer an epoch may be: QEMU may have to wait for a processor, 72 ms beside two busy
	// loops on two cores. A guest that hangs never does; there each wait in vain halves the
	// next one, down to the least, until one is not.
	drainFor   = 250 * time.Millisecond
	drainLeast = time.Millisecond
	drainFirst = 50 * time.Microsecond // until the second look; each takes twice as long as the one before
	drainEvery = time.Millisecond      // at most

	letGoRounds = 8
)

// ErrQueued: the guest has not taken all of what came before a Pause.
var ErrQueued = errors.New("packets are still in the tap's queue")

// deadline is when not to wait any more for a guest that takes what it is sent.
type deadline struct {
	at    time.Time
	ended <-chan struct{} // its process has
}

func (d deadline) over() bool {
	select {
	case <-d.ended:
		return true
	default:
		return time.Now().After(d.at)
	}
}

// Pause has what comes for the guest wait, for at most that long, until Resume; it is
// copied to the backup all the same. While QEMU stops a guest it takes a packet in that it
// then throws away (net/net.c in its sources, net_vm_change_state_handler): one for each
// NIC and checkpoint, unless none comes and none is in the tap's queue. So Pause returns
// when the guest has taken those, or with ErrQueued when that takes too long. After this or
// another error packets wait all the same: until Resume, or for that long.
func (m *Mirror) Pause(limit time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	var errs []error
	for _, s := range m.sources {
		errs = append(errs, s.copier.wait(limit))
	}
	end := deadline{time.Now().Add(m.patience), m.ended}
	var err error
	for _, s := range m.sources {
		err = errors.Join(err, s.drain(m.h, end))
	}
	if errors.Is(err, ErrQueued) {
		m.patience = max(m.patience/2, drainLeast)
	} else {
		m.patience = drainFor
	}
	return errors.Join(append(errs, err)...)
}

// drain returns when the guest has taken what had entered its tap's queue when new packets
// began to wait. One on its way then does either; a later look knows.
func (s *source) drain(h kernel, end deadline) error {
	queued := uint64(math.MaxUint64)
	for wait := drainFirst; s.account != nil; wait = min(2*wait, drainEvery) {
		if err := s.look(h); err != nil {
			return err
		}
		queued = min(queued, s.account.queued)
		if s.account.taken >= queued {
			return nil
		}
		if end.over() {
			return fmt.Errorf("%w: %s", ErrQueued, s.tap.Name)
		}
		time.Sleep(wait)
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
	until := deadline{time.Now().Add(m.patience), m.ended}
	for _, s := range m.sources {
		// In order, but for what comes when the last round is over: it may never end.
		for range letGoRounds {
			if s.letGo(until, s.stillWaiting()); s.stillWaiting() == 0 {
				break
			}
		}
		s.copier.goOn()
		s.letGoRest(until)
	}
}

// letGoRest is for when no more packets begin to wait. One may be on its way to the others
// still; one that never comes there was too much for the device's queue.
func (s *source) letGoRest(until deadline) {
	for range letGoRounds {
		s.letGo(until, drainLimit)
		if s.stillWaiting() == 0 {
			break
		}
		time.Sleep(drainFirst)
	}
	s.went = s.copier.held()
}

func (s *source) stillWaiting() uint64 { return uint64(max(0, int64(s.copier.held()-s.went))) }

// letGo hands on what waits, up to a number of packets. A long wait fills more than the
// tap's queue: it has until then to be read. What does not fit it after that is dropped, as
// it would have been without waiting; the tap counts it, and each try before.
func (s *source) letGo(until deadline, packets uint64) {
	s.waiting.raw.Control(func(fd uintptr) {
		each(int(fd), int(min(packets, drainLimit)), s.buf, func(packet []byte) {
			s.went++ // first: what enters the queue must not be called waiting
			for {
				_, err := unix.Write(s.send, packet)
				if err != unix.ENOBUFS && err != unix.EAGAIN || until.over() {
					return
				}
				if err == unix.ENOBUFS {
					s.retried++
				}
				time.Sleep(drainFirst)
			}
		})
	})
}
