package input

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Pause has what comes for the guest wait, for at most that long, until Resume; it is
// copied to the backup all the same. While QEMU stops a guest it takes a packet in that it
// then throws away (net/net.c in its sources, net_vm_change_state_handler): one for each
// NIC and checkpoint, unless none comes. After an error the guest gets its packets as ever.
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
	return errors.Join(errs...)
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
	for _, s := range m.sources {
		s.letGo()
		s.copier.goOn()
		s.letGo() // what came in between
	}
}

// letGo hands on what waits. What does not fit the tap's queue is dropped, as it would
// have been without waiting; the tap counts it.
func (s *source) letGo() {
	buf := make([]byte, vnetSize+maxFrame)
	drain(s.waiting.raw, func(fd, max int) bool {
		return each(fd, max, buf, func(packet []byte) { unix.Write(s.send, packet) })
	})
}
