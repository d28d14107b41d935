package relay

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/internal/mutant"
)

// Release sends an epoch and all before it, in order, until a time. ErrNotEnded for an epoch
// under way or to come; nothing is sent then. ErrLate: what is left is still held. It may be
// called again after an error.
func (r *Relay) Release(epoch uint64, until time.Time) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	upTo, err := r.mayRelease(epoch)
	if err != nil {
		return fmt.Errorf("release %d: %w", epoch, err)
	}
	if upTo == nil {
		return nil // it has gone already
	}
	if err := r.meter.setDeadline(until); err != nil {
		return fmt.Errorf("release %d: %w", epoch, err)
	}
	last := epoch
	if mutant.Is(mutant.SecondBuffer) {
		last++
	}
	var errs []error
	for _, n := range r.nics {
		err := n.letGo(last, *upTo)
		errs = append(errs, err)
		if errors.Is(err, hook.ErrLate) {
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("release %d: %w", epoch, err)
	}
	r.released(epoch, *upTo)
	return nil
}

// mayRelease says how much had come in at the end of the epoch, nil if it is not held.
func (r *Relay) mayRelease(epoch uint64) (*level, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch >= r.epoch {
		return nil, fmt.Errorf("%w; %d is under way", hook.ErrNotEnded, r.epoch)
	}
	if err := r.usableLocked(); err != nil || r.state == open {
		return nil, err
	}
	if err := r.checkLocked(); err != nil {
		return nil, err
	}
	if l, ok := r.ends[epoch]; ok {
		return &l, nil
	}
	return nil, nil
}

func (r *Relay) released(epoch uint64, upTo level) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meter.empty(upTo)
	maps.DeleteFunc(r.ends, func(e uint64, _ level) bool { return e <= epoch })
}
