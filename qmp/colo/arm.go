package colo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// Every name that QEMU marks unstable (x-) is in this file.
const (
	capCOLO         = "x-colo"
	capReturnPath   = "return-path"
	paramDelay      = "x-checkpoint-delay"
	cmdHeartbeat    = "x-colo-lost-heartbeat"
	fdName          = "hamgr-colo"
	returnPathMajor = 11 // from this version on COLO insists on the return path
)

// Options tune a session; zero values take the defaults given.
type Options struct {
	CheckpointDelay time.Duration // QEMU's own timer between checkpoints; default 2 ms
	MaxBandwidth    uint64        // of the first copy, bytes a second; default 10 GiB/s
	DowntimeLimit   time.Duration // of the end of the first copy; default 300 ms
}

func (o *Options) defaults() {
	if o.CheckpointDelay == 0 {
		o.CheckpointDelay = 2 * time.Millisecond
	}
	if o.MaxBandwidth == 0 {
		o.MaxBandwidth = 10 << 30
	}
	if o.DowntimeLimit == 0 {
		o.DowntimeLimit = 300 * time.Millisecond
	}
}

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

// Arm puts a running QEMU into COLO and reads the first copy of its memory into sink.
// The guest runs during the copy and stands still on return, until Ready. After an
// error the guest runs and COLO is off.
func Arm(ctx context.Context, c *qmp.Client, o Options, sink Sink) (*Session, error) {
	o.defaults()
	if err := prepare(ctx, c, o); err != nil {
		return nil, err
	}
	conn, err := migrate(ctx, c)
	if err != nil {
		return nil, errors.Join(err, clearCapabilities(c))
	}
	s := &Session{client: c, conn: conn, in: newReader(conn, sink)}
	err = s.guard(ctx, s.in.precopy)
	if err == nil {
		err = s.shut()
	}
	if err == nil {
		err = waitStatus(ctx, c, "colo")
	}
	if err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(err, s.Disarm(end))
	}
	return s, nil
}

func prepare(ctx context.Context, c *qmp.Client, o Options) error {
	v, err := QueryVersion(ctx, c)
	if err != nil {
		return err
	}
	if err := c.Execute(ctx, "migrate-set-capabilities", capabilities(v, true), nil); err != nil {
		return err
	}
	return c.Execute(ctx, "migrate-set-parameters", map[string]any{
		paramDelay: o.CheckpointDelay.Milliseconds(), "max-bandwidth": o.MaxBandwidth,
		"downtime-limit": o.DowntimeLimit.Milliseconds(),
	}, nil)
}

func capabilities(v Version, on bool) any {
	type capability struct {
		Capability string `json:"capability"`
		State      bool   `json:"state"`
	}
	caps := []capability{{capCOLO, on}}
	if v.Major >= returnPathMajor {
		caps = append(caps, capability{capReturnPath, on})
	}
	return map[string]any{"capabilities": caps}
}

// clearCapabilities leaves QEMU fit for an ordinary migration.
func clearCapabilities(c *qmp.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	v, err := QueryVersion(ctx, c)
	if err != nil {
		return err
	}
	return c.Execute(ctx, "migrate-set-capabilities", capabilities(v, false), nil)
}

// migrate starts the migration into one end of a socket pair; passing the file spares
// QEMU's sandbox (sVirt, mount namespace) a path. The other end is returned.
func migrate(ctx context.Context, c *qmp.Client) (net.Conn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("colo: socket pair: %w", err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "qemu"), os.NewFile(uintptr(fds[1]), "agent")
	defer theirs.Close()
	defer ours.Close()
	for _, fd := range fds {
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4<<20) // fewer wake-ups while the guest stands still
	}
	if err := c.PassFile(ctx, fdName, theirs); err != nil {
		return nil, err
	}
	if err := c.Execute(ctx, "migrate", map[string]string{"uri": "fd:" + fdName}, nil); err != nil {
		return nil, err
	}
	return net.FileConn(ours)
}

// Status is QEMU's word on its migration, and on whether the guest runs.
func Status(ctx context.Context, c *qmp.Client) (migration, run string, err error) {
	var m, r struct {
		Status string `json:"status"`
	}
	if err = c.Execute(ctx, "query-migrate", nil, &m); err == nil {
		err = c.Execute(ctx, "query-status", nil, &r)
	}
	return m.Status, r.Status, err
}

// waitStatus polls until the migration has a status: it has no event of its own on a
// passthrough, and takes a few milliseconds.
func waitStatus(ctx context.Context, c *qmp.Client, want string) error {
	for {
		m, _, err := Status(ctx, c)
		if err != nil || m == want {
			return err
		}
		if m == "failed" || m == "completed" {
			return fmt.Errorf("colo: the migration went to %q instead of %q: this QEMU cannot do COLO", m, want)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("colo: the migration is %q, not %q: %w", m, want, err)
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(2 * time.Millisecond):
		return nil
	}
}

// Recover takes a QEMU out of a COLO session whose agent is gone: the guest runs on.
func Recover(ctx context.Context, c *qmp.Client) error {
	m, _, err := Status(ctx, c)
	if err != nil {
		return err
	}
	switch m {
	case "colo":
		return leave(ctx, c)
	case "active", "setup", "device", "pre-switchover":
		if err := c.Execute(ctx, "migrate_cancel", nil, nil); err != nil {
			return err
		}
	}
	return settle(ctx, c)
}

// leave tells QEMU its peer is lost. QEMU refuses while it has not noticed; so repeat.
func leave(ctx context.Context, c *qmp.Client) error {
	for {
		err := c.Execute(ctx, cmdHeartbeat, nil, nil)
		m, _, serr := Status(ctx, c)
		if serr != nil {
			return serr
		}
		if m != "colo" && m != "active" {
			return settle(ctx, c)
		}
		if perr := pause(ctx); perr != nil {
			return errors.Join(perr, err)
		}
	}
}

// settle waits until the migration is over, and lets a guest run that it left stopped.
// QEMU refuses to while its COLO thread is still on its way out; so repeat.
func settle(ctx context.Context, c *qmp.Client) error {
	for {
		m, run, err := Status(ctx, c)
		if err != nil {
			return err
		}
		var refused error
		switch {
		case m == "active" || m == "cancelling" || m == "colo" || m == "setup" || m == "device":
		case run == "running":
			return clearCapabilities(c)
		default:
			refused = c.Execute(ctx, "cont", nil, nil)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("colo: the migration is %q and the guest %q: %w", m, run, errors.Join(err, refused))
		}
	}
}
