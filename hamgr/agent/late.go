package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/internal/mutant"
)

const (
	// lateCommit is less than the shortest silence after which a host is declared dead.
	lateCommit = 80 * time.Millisecond
	// closing is what the end of a connection may come behind its last data, and less than a
	// backup takes to restore the guest.
	closing = 10 * time.Millisecond
)

// release lets the ended epoch's output go, and nothing of it when it may be too late: this
// process may be stopped between any two packets. An epoch that takes long to go is gone on
// with, after another look each time.
func (s *session) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for look := false; ; look = true {
		until, err := s.stillBackedUp(ctx, look)
		if err != nil {
			return err
		}
		if err = s.p.out.buffer.Release(s.ended, until); err == nil {
			return nil
		}
		if !errors.Is(err, bufferqdisc.ErrLate) || ctx.Err() != nil {
			return fmt.Errorf("output buffer: %w", err)
		}
	}
}

// stillBackedUp says until when what was committed may be let go. When the backup was last
// known to be there long ago, as a commit was long in coming, or the network or this process
// stood still, it looks first, as it does when it is told to: meanwhile the backup may have
// been given the guest, and what is let go here would come out beside what the guest says
// there (I2). A backup hangs up when it takes over, but that news may come behind: where
// the managers have had the time to act on any silence, they are asked, by ending the session.
// In the time until the look nothing more is known than before, so this narrows the gap to
// what any network may delay a packet by; it does not close it.
func (s *session) stillBackedUp(ctx context.Context, look bool) (until time.Time, err error) {
	if mutant.Is(mutant.IgnoreFailedCommit) {
		return time.Now().Add(time.Hour), nil
	}
	late := time.Since(s.there)
	if !look && late < lateCommit-closing {
		return s.there.Add(lateCommit), nil
	}
	if late >= cmp.Or(s.p.agent.cfg.Patience, commitTimeout) {
		return until, fmt.Errorf("backup %s was %v late with its commit; the managers are to say whose the guest is now", s.order.Backup, late.Round(time.Millisecond))
	}
	if err := sleep(ctx, closing); err != nil {
		return until, err
	}
	now := time.Now()
	if hungUp(s.conn) {
		return until, fmt.Errorf("backup %s has hung up since it committed, %v ago", s.order.Backup, time.Since(s.there).Round(time.Millisecond))
	}
	s.there = now
	return now.Add(closing), nil
}

// hungUp says that the other end has closed a TCP connection, or reset it. It reads nothing.
func hungUp(conn net.Conn) bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	n, peek := 0, error(nil)
	if err := raw.Control(func(fd uintptr) {
		n, _, peek = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); err != nil {
		return true // closed here
	}
	return peek == nil && n == 0 || peek != nil && !errors.Is(peek, unix.EAGAIN) && !errors.Is(peek, unix.EINTR)
}
