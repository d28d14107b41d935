package bufferqdisc

import (
	"errors"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/plug"
)

// Left says whether something of ours, a buffer or a gate, is on any of these taps: the
// sign of a guest that this host has protected, and whose tap was not made anew since.
func Left(taps []string) (bool, error) {
	h, err := hook.Handle()
	if err != nil {
		return false, err
	}
	defer h.Delete()
	for _, name := range taps {
		t, err := hook.Left(h, name)
		if err != nil {
			return false, err
		}
		if t == nil {
			continue
		}
		if ours, err := t.HasOurs(); ours || err != nil {
			return ours, err
		}
	}
	return false, nil
}

// Drop drops what an earlier process holds for these taps, which stay cut until Clear. For
// a copy of a guest that another host has taken over.
func Drop(taps []string) error { return drop(hook.Dial, taps) }

func drop(dial func() (hook.Kernel, error), taps []string) error {
	h, err := dial()
	if err != nil {
		return err
	}
	defer h.Delete()
	var errs []error
	for _, name := range taps {
		errs = append(errs, plug.Remove(h, name))
	}
	return errors.Join(errs...)
}

// Sweep removes what earlier processes left for taps that are gone: buffers of guests that
// ended while nobody looked after them.
func Sweep() error { return sweep(hook.Dial) }

func sweep(dial func() (hook.Kernel, error)) error {
	h, err := dial()
	if err != nil {
		return err
	}
	defer h.Delete()
	return plug.Sweep(h)
}
