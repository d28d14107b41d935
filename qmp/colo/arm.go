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

// ErrUnsupported: this QEMU does not do COLO. Probe says more, and what to do about it.
var ErrUnsupported = errors.New("colo: this QEMU does not do COLO")

// Options tune a session; zero values take the defaults given.
type Options struct {
	CheckpointDelay time.Duration // QEMU's own timer between checkpoints, in whole ms; default 2 ms
	MaxBandwidth    uint64        // of the first copy while the guest runs, bytes a second; default 10 GiB/s
	DowntimeLimit   time.Duration // of the end of the first copy, in whole ms, with KVM; default 300 ms

	lastPassMost time.Duration // default 5 s
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
	if o.lastPassMost == 0 {
		o.lastPassMost = lastPassMost
	}
}

// disarmTimeout bounds the way back after a failed Arm.
const disarmTimeout = 5 * time.Second

// Arm puts a running QEMU into COLO and reads the first copy of its memory into sink.
// The guest runs during the copy, but for the end of one that would have none, and stands
// still on return, until Ready. After an error the guest runs and COLO is off; if even that
// failed, the error says so.
//
// Errors: ErrUnsupported, ErrTruncated (QEMU or its guest died), ErrProtocol, the sink's
// own, ctx's cause.
func Arm(ctx context.Context, c *qmp.Client, o Options, sink Sink) (*Session, error) {
	return arm(ctx, c, o, sink, func(conn net.Conn) net.Conn { return conn })
}

// arm is Arm, with a place for tests to look into the stream.
func arm(ctx context.Context, c *qmp.Client, o Options, sink Sink, wrap func(net.Conn) net.Conn) (*Session, error) {
	o.defaults()
	v, err := QueryVersion(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := wantRunning(ctx, c); err != nil {
		return nil, err
	}
	if o.DowntimeLimit, err = downtimeLimit(ctx, c, o); err != nil {
		return nil, err
	}
	if err := enable(ctx, c, v, o); err != nil {
		return nil, err
	}
	silent := describe(ctx, c, false)
	conn, err := migrate(ctx, c)
	if err != nil {
		return nil, joinCleanup(err, recoverFrom(ctx, c))
	}
	conn = wrap(conn)
	s := &Session{client: c, conn: conn, in: newReader(conn, sink)}
	s.in.silent = silent
	if err := s.firstCopy(ctx, v, o.lastPassMost); err != nil {
		conn.Close()
		return nil, joinCleanup(err, recoverFrom(ctx, c))
	}
	return s, nil
}

// downtimeLimit is 0 under emulation: QEMU then takes stock of dirty pages only when it has
// sent all that it knew of. Otherwise (migration/ram.c, seen in 11.1.3) it may clear the
// dirty bits of pages that it has yet to send and, finding no other page, leave the
// emulated CPU's TLB as it is: later writes to them are in no checkpoint. The price: the
// copy ends by itself only if the guest wrote nothing during a pass (endCopy); before 11.1
// after the first one, and all that the guest wrote meanwhile is sent while it stands.
func downtimeLimit(ctx context.Context, c *qmp.Client, o Options) (time.Duration, error) {
	var kvm struct {
		Enabled bool `json:"enabled"`
	}
	err := c.Execute(ctx, "query-kvm", nil, &kvm)
	if !kvm.Enabled {
		return 0, err
	}
	return o.DowntimeLimit, err
}

func recoverFrom(ctx context.Context, c *qmp.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), disarmTimeout)
	defer cancel()
	return Recover(ctx, c)
}

// wantRunning refuses a guest that stands still: a session would make it run.
func wantRunning(ctx context.Context, c *qmp.Client) error {
	s, err := queryStatus(ctx, c)
	if err == nil && s.run != "running" {
		return fmt.Errorf("colo: the guest is %q; only a running one can be checkpointed, resume it first", s.run)
	}
	return err
}

// fdName is what QEMU knows its end of the socket pair by until the migration takes it.
const fdName = "hamgr-colo"

// migrate starts the migration into one end of a socket pair; passing the file spares
// QEMU's sandbox (sVirt, mount namespace) a path. The other end is returned.
func migrate(ctx context.Context, c *qmp.Client) (net.Conn, error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	if err = c.PassFile(ctx, fdName, theirs); err == nil {
		err = c.Execute(ctx, "migrate", map[string]string{"uri": "fd:" + fdName}, nil)
	}
	if err != nil {
		conn.Close()
		// Should QEMU have kept the file, the next getfd of this name closes it.
		return nil, err
	}
	return conn, nil
}

// sendBuffer lets QEMU write most checkpoints without waiting for this side to wake up.
const sendBuffer = 4 << 20

func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("colo: socket pair: %w", err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "qemu"), os.NewFile(uintptr(fds[1]), "agent")
	defer ours.Close() // FileConn takes a copy
	// Past the system's limit takes a privilege; without it the limit has to do.
	if syscall.SetsockoptInt(fds[0], syscall.SOL_SOCKET, syscall.SO_SNDBUFFORCE, sendBuffer) != nil {
		syscall.SetsockoptInt(fds[0], syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("colo: socket pair: %w", err)
	}
	return conn, theirs, nil
}
