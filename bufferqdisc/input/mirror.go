package input

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// MirrorConfig names what to copy and where to.
type MirrorConfig struct {
	Name  string          // the guest, for messages
	Taps  []string        // its network devices on this host
	To    netip.Addr      // the backup
	Ports [][]uint16      // what the backup's Keeper offers for each tap
	PID   int             // of the process that has the taps open, see Outlive; 0: not known
	Ended <-chan struct{} // closed when it has ended: then nobody reads from them; nil: not known

	dial dialer // by tests
}

// Mirror copies what goes to one guest, all of its NICs, to its backup. Its methods may be
// called from any goroutine.
//
//	ready --Count--> counting --Start--> copying --Close--> closed
type Mirror struct {
	mu       sync.Mutex // guards all
	h        kernel
	pid      int
	ended    <-chan struct{}
	sources  []*source
	patience time.Duration // of the next Pause
	last     MirrorStats   // of before the end
	closed   bool
}

// MirrorStats counts packets since Start. A large (GSO) packet counts as one.
type MirrorStats struct {
	Copied uint64 `json:"copied_packets"` // handed to the tunnel
	Failed uint64 `json:"failed_packets"` // not copied, for want of memory or of the tunnel
}

// NewMirror readies the tunnels. Nothing is copied yet, and nothing is changed on the taps.
// After an error nothing is left behind.
func NewMirror(c MirrorConfig) (*Mirror, error) {
	m, err := newMirror(c)
	if err != nil {
		return nil, fmt.Errorf("input handler of %s: %w", c.Name, err)
	}
	return m, nil
}

func newMirror(c MirrorConfig) (_ *Mirror, err error) {
	if len(c.Ports) != len(c.Taps) {
		return nil, fmt.Errorf("the guest has %d NICs here, and the backup listens for %d", len(c.Taps), len(c.Ports))
	}
	m := &Mirror{patience: drainFor, pid: c.PID, ended: c.Ended}
	if m.h, err = c.dial.open(); err != nil {
		return nil, err
	}
	for i, name := range c.Taps {
		s, err := openSource(m.h, name, c.Ports[i], c.To.Unmap())
		if s != nil {
			s.ended = c.Ended
			m.sources = append(m.sources, s)
		}
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

// Count begins to count what goes to the guest. Looks until Start then show how many packets
// were on their way uncounted: one of those, taken for one with a number, would let Pause
// and Taken be a packet ahead of the guest. After an error nothing is counted.
func (m *Mirror) Count() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.countLocked()
}

func (m *Mirror) countLocked() error {
	for _, s := range m.sources {
		if s.account != nil {
			continue
		}
		base, err := s.counters(m.h)
		if err == nil {
			s.account = newAccount(base)
			err = s.tap.AttachInput(s.copier.copy)
		}
		if err != nil {
			return errors.Join(err, m.stopLocked())
		}
	}
	return nil
}

// Look has the counters looked at while packets come and go, see Count.
func (m *Mirror) Look() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lookLocked()
}

func (m *Mirror) lookLocked() error {
	for _, s := range m.sources {
		if err := s.look(m.h); err != nil {
			return err
		}
	}
	return nil
}

// Start begins to copy; it counts from now if it has not before. After an error nothing is
// copied.
func (m *Mirror) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.countLocked(); err != nil {
		return err
	}
	for _, s := range m.sources {
		s.copier.start()
	}
	return nil
}

// Outlive has the taps stay until Close, should the guest's process die: what comes for the
// guest is copied until then, and not dropped. An error says that it will not be, and that
// of some taps it may be; all else is as ever. Open vSwitch has its own mind: libvirt takes
// the port out of it.
func (m *Mirror) Outlive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pid == 0 {
		return errors.New("the guest's process is not known")
	}
	if m.closed {
		return nil
	}
	var errs []error
	for _, s := range m.sources {
		if s.file >= 0 {
			continue
		}
		var err error
		if s.file, err = outlive(m.pid, s.tap.Name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *Mirror) stopLocked() error {
	var errs []error
	for _, s := range m.sources {
		if s.account != nil {
			s.account = nil
			errs = append(errs, s.tap.DetachInput())
		}
	}
	return errors.Join(errs...)
}

// Taken tells for each tap the number of the last packet that the guest has for certain,
// with all before it: a checkpoint that begins after this call contains them.
func (m *Mirror) Taken() ([]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.lookLocked(); err != nil {
		return nil, err
	}
	taken := make([]uint64, len(m.sources))
	for i, s := range m.sources {
		taken[i] = s.taken()
	}
	return taken, nil
}

// Stats may be called at any time.
func (m *Mirror) Stats() MirrorStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.statsLocked()
}

func (m *Mirror) statsLocked() MirrorStats {
	if m.closed {
		return m.last
	}
	var sum MirrorStats
	for _, s := range m.sources {
		if s.copier == nil {
			continue
		}
		t := s.copier.tally()
		sum.Copied += t.numbered
		sum.Failed += t.failed
	}
	return sum
}

// Close ends the copying. What it leaves on the taps does nothing, and Clear removes it.
// It may be called again.
func (m *Mirror) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.last = m.statsLocked()
	var errs []error
	for _, s := range m.sources {
		if s.account != nil {
			errs = append(errs, stepAside(s.tap))
		}
		errs = append(errs, s.close(m.h))
	}
	m.closed = true
	m.h.Delete()
	return errors.Join(errs...)
}
