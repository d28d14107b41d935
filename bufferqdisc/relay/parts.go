package relay

import (
	"errors"
	"fmt"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

func (n *nic) startHolding() error {
	if err := n.tap.Inspect(); err != nil {
		return err
	}
	if err := n.letAllGo(); err != nil { // what came too late for the last Open
		return err
	}
	return n.mend()
}

// stopHolding gives a tap its direct path: first all that is held, then the newer
// packets. Those that were on their way here meanwhile follow.
func (n *nic) stopHolding() error {
	if err := n.letAllGo(); err != nil {
		return err
	}
	if err := n.tap.Detach(); err != nil {
		return err
	}
	return n.letAllGo()
}

// intact tells whether our filters are where they belong, and no other is on the tap.
func (n *nic) intact() error {
	if err := n.tap.There(); err != nil {
		return err
	}
	if err := n.tap.Inspect(); err != nil {
		return err
	}
	for _, d := range []*tapdev.Device{n.hold, n.release} {
		if err := d.Intact(n.r.h); err != nil {
			return err
		}
	}
	for _, t := range []*hook.Tap{n.tap, n.back} {
		if there, err := t.HasBuffer(); err != nil || !there {
			return errors.Join(err, fmt.Errorf("%w: the filter of %s was removed by somebody else", hook.ErrLost, t.Name))
		}
	}
	return nil
}

// mend puts everything where it belongs.
func (n *nic) mend() error {
	for _, d := range []*tapdev.Device{n.hold, n.release} {
		if d.Intact(n.r.h) == nil {
			continue
		}
		if err := d.Mend(n.r.h); err != nil {
			return err
		}
	}
	if there, err := n.back.HasBuffer(); err != nil || !there {
		if err := n.back.AttachBPF(n.progs.release); err != nil {
			return err
		}
	}
	return n.tap.AttachBPF(n.progs.hold)
}
