package tapnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	vnetLen = 10 // struct virtio_net_hdr, before every frame
	burst   = 64
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
		var s *sink
		if err := n.within(n.outside, func() (err error) { s, err = newSink(); return err }); err != nil {
			return err
		}
		defer s.close()
		if err := n.awaitForwarding(s); err != nil {
			return err
		}
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
	p := make([]byte, vnetLen, vnetLen+size)
	p = append(append(p, outsideMAC...), 0x52, 0x54, 0, 0, 0, 1, 8, 0)
	ip := make([]byte, size-14)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(ip[20:], 1000)
	binary.BigEndian.PutUint16(ip[22:], 2000)
	binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
	return append(p, ip...)
}
