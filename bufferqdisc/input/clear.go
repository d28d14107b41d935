package input

import (
	"errors"
	"fmt"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
)

// Clear removes what an earlier process left for these taps: copies, a hold, a cut. A tap
// that is gone has nothing left. Other people's filters stay.
func Clear(taps []string) error { return clearTaps(dial, taps) }

func clearTaps(d dialer, taps []string) error {
	h, err := d.open()
	if err != nil {
		return err
	}
	defer h.Delete()
	var errs []error
	for _, name := range taps {
		t, err := hook.Left(h, name)
		if t != nil {
			err = t.DetachInput()
		}
		errs = append(errs, err, removeDevice(h, hook.DeviceName(tunnelPrefix, name)))
	}
	return errors.Join(errs...)
}

// stepAside replaces a filter of ours on a tap that is in use by one that does nothing, for
// Clear to remove. The qdisc under it is to stay: to add or remove one stops the tap's
// queues for an instant and loses what comes then (net/sched/sch_api.c, qdisc_graft calls
// dev_deactivate), and as long as the guest is protected, it will be wanted again.
func stepAside(t *hook.Tap) error {
	pass, err := load(passProgram())
	if err != nil {
		return err
	}
	defer pass.Close()
	if err := t.AttachInput(pass); err != nil && !hook.IsGone(err) {
		return err
	}
	return nil
}

// Cut lets nothing reach the guests of these taps any more, until Clear; a tap that is
// gone is cut. For a copy of a guest that another host has taken over.
func Cut(taps []string) error { return cutTaps(dial, taps) }

func cutTaps(d dialer, taps []string) error {
	h, err := d.open()
	if err != nil {
		return err
	}
	defer h.Delete()
	drop, err := load(dropProgram())
	if err != nil {
		return err
	}
	defer drop.Close()
	var errs []error
	for _, name := range taps {
		t, err := hook.Left(h, name)
		if t != nil {
			err = t.AttachInput(drop)
		}
		if err != nil && !hook.IsGone(err) {
			errs = append(errs, fmt.Errorf("cut %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
