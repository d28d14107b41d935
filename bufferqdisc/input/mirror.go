package input

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MirrorConfig names what to copy and where to.
type MirrorConfig struct {
	Name  string     // the guest, for messages
	Taps  []string   // its network devices on this host
	To    netip.Addr // the backup
	Ports [][]uint16 // what the backup's Keeper offers for each tap

	dial dialer // by tests
}

// Mirror copies what goes to one guest, all of its NICs, to its backup. Its methods may be
// called from any goroutine.
//
//	ready --Start--> copying --Close--> closed
type Mirror struct {
	mu       sync.Mutex // guards all
	h        kernel
	sources  []*source
	patience time.Duration // of the next Pause
	last     MirrorStats   // of before the end
	closed   bool
}

// source is one tap.
type source struct {
	tap     *hook.Tap
	tunnel  netlink.Link
	waiting *collector
	send    int // packet socket on the tap, past its filters
	copier  *copier
	account *account // nil until Start
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
	m := &Mirror{patience: drainFor}
	if m.h, err = c.dial.open(); err != nil {
		return nil, err
	}
	for i, name := range c.Taps {
		s, err := m.open(name, c.Ports[i], c.To.Unmap())
		if s != nil {
			m.sources = append(m.sources, s)
		}
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

func (m *Mirror) open(tap string, ports []uint16, to netip.Addr) (s *source, err error) {
	s = &source{send: -1}
	if s.tap, err = hook.Lookup(m.h, tap); err != nil {
		return nil, err
	}
	if err := checkMTU(m.h, s.tap.Index, to); err != nil {
		return nil, err
	}
	if s.tunnel, err = openTunnel(m.h, tap, ports); err != nil {
		return nil, err
	}
	if s.waiting, err = openCollector(m.h, hook.DeviceName(pausePrefix, tap)); err != nil {
		return s, err
	}
	if s.send, err = sendSocket(s.tap.Index); err != nil {
		return s, fmt.Errorf("packet socket on %s: %w", tap, err)
	}
	if s.copier, err = newCopier(s.tunnel.Attrs().Index, s.waiting.link.Attrs().Index, to); err != nil {
		return s, err
	}
	return s, hook.On(m.h, s.tunnel).AttachInput(s.copier.number)
}

// Start begins to copy. After an error nothing is copied.
func (m *Mirror) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sources {
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

// counters reads what account needs, in the order that it needs.
func (s *source) counters(h kernel) (c counters, err error) {
	l, err := h.LinkByIndex(s.tap.Index)
	if err != nil {
		return c, fmt.Errorf("counters of %s: %w", s.tap.Name, err)
	}
	if n := l.Attrs().Statistics; n != nil {
		c.read, c.dropped = n.TxPackets, n.TxDropped
	}
	c.numbered, c.large, _ = s.copier.counters()
	return c, nil
}

// Taken tells for each tap the number of the last packet that the guest has for certain,
// with all before it: a checkpoint that begins after this call contains them.
func (m *Mirror) Taken() ([]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := make([]uint64, len(m.sources))
	for i, s := range m.sources {
		if err := s.look(m.h); err != nil {
			return nil, err
		}
		if s.account != nil {
			taken[i] = s.account.taken
		}
	}
	return taken, nil
}

// look brings the account up to date; before Start there is none.
func (s *source) look(h kernel) error {
	if s.account == nil {
		return nil
	}
	c, err := s.counters(h)
	if err == nil {
		s.account.look(time.Now(), c)
	}
	return err
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
		copied, _, failed := s.copier.counters()
		sum.Copied += copied
		sum.Failed += failed
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

// close lets go what waits, of a source that is detached or was never attached.
func (s *source) close(h kernel) error {
	errs := []error{removeDevice(h, s.tunnel.Attrs().Name)}
	if s.copier != nil {
		s.letGo()
		errs = append(errs, s.copier.close())
	}
	if s.send >= 0 {
		unix.Close(s.send)
	}
	if s.waiting != nil {
		s.waiting.close()
	}
	return errors.Join(errs...)
}
