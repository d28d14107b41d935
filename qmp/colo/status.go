package colo

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// Version is a QEMU version.
type Version struct{ Major, Minor, Micro int }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// QueryVersion asks QEMU for its version.
func QueryVersion(ctx context.Context, c *qmp.Client) (Version, error) {
	var out struct {
		QEMU Version `json:"qemu"`
	}
	err := c.Execute(ctx, "query-version", nil, &out)
	return out.QEMU, err
}

// status is QEMU's word on its migration (MigrationStatus) and its guest (RunState).
type status struct {
	migration string
	run       string
	reason    string // why a migration failed, if QEMU says
}

func (s status) String() string {
	text := fmt.Sprintf("migration %q, guest %q", s.migration, s.run)
	if s.reason != "" {
		text += ": " + s.reason
	}
	return text
}

// Status is QEMU's word on its migration (qapi MigrationStatus; "" before any) and on its
// guest (qapi RunState).
func Status(ctx context.Context, c *qmp.Client) (migration, run string, err error) {
	s, err := queryStatus(ctx, c)
	return s.migration, s.run, err
}

func queryStatus(ctx context.Context, c *qmp.Client) (status, error) {
	var m struct {
		Status string `json:"status"`
		Reason string `json:"error-desc"`
	}
	var r struct {
		Status string `json:"status"`
	}
	err := c.Execute(ctx, "query-migrate", nil, &m)
	if err == nil {
		err = c.Execute(ctx, "query-status", nil, &r)
	}
	return status{m.Status, r.Status, m.Reason}, err
}

const inCOLO = "colo"

// over: no migration is under way.
func (s status) over() bool {
	switch s.migration {
	case "", "none", "completed", "failed", "cancelled":
		return true
	}
	return false
}

// leftByUs: the guest stands still because of a migration, not because somebody paused it.
func (s status) leftByUs() bool {
	return s.run == "finish-migrate" || s.run == "postmigrate" || s.run == inCOLO
}

// waitCOLO waits until QEMU is in its session: after the first copy it takes a moment.
func (s *Session) waitCOLO(ctx context.Context) error {
	for p := (poll{}); ; {
		if in, err := s.inSession(ctx); err != nil || in {
			return err
		}
		if err := p.wait(ctx); err != nil {
			return fmt.Errorf("colo: QEMU did not get into its session after the first copy: %w", err)
		}
	}
}

// inSession says that QEMU is in its session, and not yet on its way there.
func (s *Session) inSession(ctx context.Context) (bool, error) {
	now, err := queryStatus(ctx, s.client)
	if err == nil && now.over() {
		err = now.notInSession()
	}
	return now.migration == inCOLO, err
}

func (s status) notInSession() error {
	return fmt.Errorf("%w: after the first copy it went to %v", ErrUnsupported, s)
}

// poll spaces out questions for a state that has no event on a passthrough: 2 ms, then
// longer, up to 32 ms.
type poll struct{ next time.Duration }

func (p *poll) wait(ctx context.Context) error {
	p.next = min(max(p.next*2, 2*time.Millisecond), 32*time.Millisecond)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(p.next):
		return nil
	}
}
