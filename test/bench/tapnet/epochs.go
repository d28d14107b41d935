package tapnet

import (
	"errors"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
)

// holding is a buffer whose epochs are ended, and at once committed, by a clock.
type holding struct {
	buffer bufferqdisc.Buffer
	stop   chan struct{}
	failed chan error // one, when the clock has stopped
}

// hold puts a buffer before the tap. No backend: nothing is put there.
func (n *Net) hold(backend string, epoch time.Duration) (*holding, error) {
	if backend == "" {
		return &holding{}, nil
	}
	b, err := n.setUp(backend)
	if err != nil {
		return nil, err
	}
	if err := b.Hold(); err != nil {
		return nil, errors.Join(err, b.Teardown())
	}
	h := &holding{buffer: b, stop: make(chan struct{}), failed: make(chan error, 1)}
	go func() { h.failed <- n.clock(b, epoch, h.stop) }()
	return h, nil
}

func (n *Net) clock(b bufferqdisc.Buffer, epoch time.Duration, stop chan struct{}) error {
	tick := time.NewTicker(epoch)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		n.still.Lock()
		e, err := b.EndEpoch()
		n.still.Unlock()
		if err == nil {
			err = b.Release(e, time.Now().Add(time.Minute))
		}
		if err != nil {
			return err
		}
	}
}

// end takes the buffer away and says what it did.
func (h *holding) end() (s bufferqdisc.Stats, err error) {
	if h.buffer == nil {
		return s, nil
	}
	close(h.stop)
	err = <-h.failed
	s = h.buffer.Stats()
	return s, errors.Join(err, h.buffer.Teardown())
}
