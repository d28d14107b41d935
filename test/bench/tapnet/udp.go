package tapnet

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

const (
	burst = 64
	// window bounds how many packets are on their way, so that none has to be dropped.
	window  = 20000
	warmUp  = 300 * time.Millisecond
	patient = 10 * time.Second
)

// Rate is what came through the tap in a second, and what a buffer dropped.
type Rate struct {
	PerSecond float64
	Dropped   uint64
}

// UDP sends packets of 64 bytes, with their Ethernet header, for d as fast as they come
// out: through a buffer with epochs of that length, or with no backend past none.
func UDP(backend string, epoch, d time.Duration) (r Rate, err error) {
	err = inNamespaces(func(n *Net) error {
		s, err := n.sink()
		if err != nil {
			return err
		}
		defer s.close()
		h, err := n.hold(backend, epoch)
		if err != nil {
			return err
		}
		r.PerSecond, err = n.generate(s, d)
		stats, e := h.end()
		r.Dropped = stats.Dropped
		return errors.Join(err, e)
	})
	return r, err
}

// sink counts outside from now on, where the bridge has been seen to let something through.
func (n *Net) sink() (s *sink, err error) {
	if err := n.within(n.outside, func() (err error) { s, err = newSink(); return err }); err != nil {
		return nil, err
	}
	if err := n.awaitForwarding(s); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// awaitForwarding sends until the bridge lets something through.
func (n *Net) awaitForwarding(s *sink) error {
	p := udpFrame(64)
	for deadline := time.Now().Add(patient); s.seen().packets.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the bridge does not forward")
		}
		if _, err := unix.Write(n.tap, p); err != nil && err != unix.EIO { // EIO: not up yet
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// generate says how many packets arrived in a second.
func (n *Net) generate(s *sink, d time.Duration) (float64, error) {
	p := udpFrame(64)
	begin := time.Now()
	sent := s.seen().packets.Load() // what arrived before is no longer on its way
	var from uint64
	var start time.Time
	for time.Since(begin) < warmUp+d {
		if start.IsZero() && time.Since(begin) > warmUp {
			from, start = s.seen().packets.Load(), time.Now()
		}
		if sent > s.seen().packets.Load()+window {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		if err := n.burst(p, burst); err != nil {
			return 0, err
		}
		sent += burst
	}
	return float64(s.seen().packets.Load()-from) / time.Since(start).Seconds(), nil
}

// burst is the guest sending so often, between two stops.
func (n *Net) burst(p []byte, times int) error {
	n.still.RLock()
	defer n.still.RUnlock()
	for range times {
		if _, err := unix.Write(n.tap, p); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// udpFrame is a UDP packet over IPv4 in a frame of that size.
func udpFrame(size int) []byte {
	const headers = 14 + 20 + 8
	return bridge.IPFrame(guestMAC, outsideMAC, false, unix.IPPROTO_UDP, make([]byte, size-headers), 0, false)
}
