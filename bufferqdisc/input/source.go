package input

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// source is one tap.
type source struct {
	tap     *hook.Tap
	tunnel  netlink.Link
	waiting *collector
	send    int // packet socket on the tap, past its filters
	file    int // the tap's own, see outlive
	copier  *copier
	account *account        // nil until Count
	went    uint64          // of the copier's held, those that were let go
	retried uint64          // writes of them that the tap counts as dropped packets
	buf     []byte          // of one of them
	ended   <-chan struct{} // the Mirror's
}

// openSource readies a tap; what it returns with an error is to be closed, or nil.
func openSource(h kernel, tap string, ports []uint16, to netip.Addr) (s *source, err error) {
	s = &source{send: -1, file: -1, buf: make([]byte, vnetSize+maxFrame)}
	if s.tap, err = hook.Lookup(h, tap); err != nil {
		return nil, err
	}
	if err := checkMTU(h, s.tap.Index, to); err != nil {
		return nil, err
	}
	if s.tunnel, err = openTunnel(h, tap, ports); err != nil {
		return nil, err
	}
	if s.waiting, err = openCollector(h, hook.DeviceName(pausePrefix, tap)); err != nil {
		return s, err
	}
	if s.send, err = sendSocket(s.tap.Index); err != nil {
		return s, fmt.Errorf("packet socket on %s: %w", tap, err)
	}
	if s.copier, err = newCopier(s.tunnel.Attrs().Index, s.waiting.link.Attrs().Index, to); err != nil {
		return s, err
	}
	return s, hook.On(h, s.tunnel).AttachInput(s.copier.number)
}

// counters reads what account needs, in the order that it needs.
func (s *source) counters(h kernel) (c counters, err error) {
	l, err := h.LinkByIndex(s.tap.Index)
	if err != nil {
		return c, fmt.Errorf("counters of %s: %w", s.tap.Name, err)
	}
	if n := l.Attrs().Statistics; n != nil {
		c.read, c.dropped = n.TxPackets, n.TxDropped-s.retried
	}
	c.waiting = s.stillWaiting()
	t := s.copier.tally()
	c.numbered, c.large = t.skipped+t.numbered, t.large
	return c, nil
}

// taken is the number of the last packet that the guest has for certain, at the last look.
func (s *source) taken() uint64 {
	if s.account == nil {
		return 0
	}
	return s.account.taken - min(s.account.taken, s.copier.tally().skipped)
}

// look brings the account up to date; before Count there is none.
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

// close lets go what waits, of a source that is detached or was never attached.
func (s *source) close(h kernel) error {
	errs := []error{removeDevice(h, s.tunnel.Attrs().Name)}
	if s.copier != nil {
		s.copier.goOn()
		s.letGoRest(deadline{time.Now().Add(drainFor), s.ended})
		errs = append(errs, s.copier.close())
	}
	if s.send >= 0 {
		unix.Close(s.send)
	}
	if s.file >= 0 {
		unix.Close(s.file)
	}
	if s.waiting != nil {
		s.waiting.close()
	}
	return errors.Join(errs...)
}
