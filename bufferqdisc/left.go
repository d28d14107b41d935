package bufferqdisc

import (
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
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
