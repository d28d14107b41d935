package detector

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// WatchProcess returns a channel that is closed when process pid ends, and only then;
// watching stops with ctx. It holds a pidfd (pidfd_open(2), Linux 5.10 for the
// non-blocking kind), so a later process with the same number is not mistaken for it. A
// process that is already gone is an error that wraps unix.ESRCH.
func WatchProcess(ctx context.Context, pid int) (<-chan struct{}, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("detector: watch process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid))
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("detector: watch process %d: %w", pid, err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	go func() {
		defer f.Close()
		defer stop()
		// A pidfd is readable once its process has ended. The runtime's poller waits.
		if err := raw.Read(readable); err == nil {
			close(ended)
		}
	}()
	return ended, nil
}

func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}
