package colo

import (
	"context"
	"errors"
	"fmt"

	"github.com/hamgr/hamgr/qmp"
)

// Recover takes a QEMU out of a COLO session whose agent is gone, at whatever point that
// was: the guest runs on, and COLO is off. A QEMU without one is left alone, so also an
// ordinary migration and a guest that somebody paused.
func Recover(ctx context.Context, c *qmp.Client) error {
	v, err := QueryVersion(ctx, c)
	if err != nil {
		return err
	}
	on, err := enabled(ctx, c)
	if err != nil || !on {
		return err
	}
	if err := leave(ctx, c); err != nil {
		return err
	}
	return disable(c, v)
}

// leave repeats what ends a session until it has ended and the guest runs. QEMU refuses
// much of it for a while: it may not have noticed yet that the socket is closed, or may
// be on its way out already.
func leave(ctx context.Context, c *qmp.Client) error {
	var refused error
	for p := (poll{}); ; {
		s, err := queryStatus(ctx, c)
		ours := s.leftByUs()
		if err == nil && s.run == "paused" {
			ours, err = stoppedForLastPass(ctx, c)
		}
		if err != nil {
			return errors.Join(err, refused)
		}
		switch {
		case s.migration == inCOLO:
			refused = lostHeartbeat(ctx, c)
		case !s.over():
			refused = c.Execute(ctx, "migrate_cancel", nil, nil)
		case ours:
			refused = c.Execute(ctx, "cont", nil, nil)
		default:
			return nil
		}
		if err := p.wait(ctx); err != nil {
			return joinCleanup(fmt.Errorf("colo: QEMU did not leave its session (%v): %w", s, err), refused)
		}
	}
}

// joinCleanup adds what went wrong while cleaning up, if anything did.
func joinCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return fmt.Errorf("%w; and then: %w", err, cleanup)
}
