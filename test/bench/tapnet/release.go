package tapnet

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Release holds an epoch of so many packets of 64 bytes and says how long after the call
// of Release the last of them was outside, once for each of the numbers.
func Release(backend string, packets []int) (took []time.Duration, err error) {
	err = inNamespaces(func(n *Net) error {
		s, err := n.sink()
		if err != nil {
			return err
		}
		defer s.close()
		b, err := n.setUp(backend)
		if err != nil {
			return err
		}
		defer b.Teardown()
		if err := b.Hold(); err != nil {
			return err
		}
		for _, k := range packets {
			before := s.seen().packets.Load()
			if err := n.burst(udpFrame(64), k); err != nil {
				return err
			}
			e, err := b.EndEpoch()
			if err != nil {
				return err
			}
			if early := s.seen().packets.Load() - before; early > 0 {
				return fmt.Errorf("%d packets were out before their release", early)
			}
			t := monotonic()
			if err := b.Release(e, time.Now().Add(time.Minute)); err != nil {
				return err
			}
			if err := s.await(before + uint64(k)); err != nil {
				return fmt.Errorf("%s, %d packets: %w; %+v", backend, k, err, b.Stats())
			}
			took = append(took, time.Duration(s.seen().last.Load()-t))
		}
		return nil
	})
	return took, err
}

func (s *sink) await(packets uint64) error {
	for deadline := time.Now().Add(patient); s.seen().packets.Load() < packets; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d are not out after %v", packets-s.seen().packets.Load(), patient)
		}
	}
	return nil
}

// monotonic is the clock of the packets' counter.
func monotonic() uint64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it is always there
	return uint64(t.Nano())
}
