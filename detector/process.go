package detector

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dyingPoll is how often a process is looked at that has not ended.
	dyingPoll = 10 * time.Millisecond
	// reapLimit is for how long a process that has ended may wait for its parent.
	reapLimit = 50 * time.Millisecond
	reapPoll  = 500 * time.Microsecond
)

// Process is one process, watched by a pidfd (pidfd_open(2), Linux 5.10 for the
// non-blocking kind), so that a later one with the same number is not mistaken for it.
//
// A pidfd speaks when the process is gone, with all its memory: for a large guest that
// takes seconds. That all its threads are in their exit, and run no code of its own any
// more, is seen before, by looking.
type Process struct {
	PID    int
	f      *os.File
	raw    syscall.RawConn
	stat   *os.File // of the process, as long as it lives
	closed atomic.Bool
	ended  chan struct{}
	known  chan struct{} // closed when status is what it will be
	status unix.WaitStatus
	said   bool // the kernel has said the status
}

// WatchProcess watches process pid until it ends or Close. One that is already gone is an
// error that wraps unix.ESRCH.
func WatchProcess(pid int) (_ *Process, err error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("detector: watch process %d: %w", pid, err)
	}
	p := &Process{PID: pid, f: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid)), ended: make(chan struct{}), known: make(chan struct{})}
	if p.raw, err = p.f.SyscallConn(); err == nil {
		p.stat, err = os.Open(p.proc("stat"))
	}
	if err != nil {
		p.f.Close()
		return nil, fmt.Errorf("detector: watch process %d: %w", pid, err)
	}
	go p.watch(fd)
	return p, nil
}

// watch ends with the process or by Close.
func (p *Process) watch(fd int) {
	defer close(p.known)
	defer p.f.Close()
	defer p.stat.Close()
	for !p.closed.Load() {
		if p.f.SetReadDeadline(time.Now().Add(dyingPoll)) != nil {
			return
		}
		// A pidfd is readable once its process has ended. The runtime's poller waits.
		if p.raw.Read(readable) == nil {
			early, ok := p.zombieStatus(fd) // before its parent takes it away
			close(p.ended)
			if p.status, p.said = early, ok; !ok {
				p.status, p.said = exitStatus(fd)
			}
			return
		}
		if status, ok := p.dying(fd); ok {
			p.status, p.said = status, true
			close(p.ended)
			return
		}
	}
}

// Close stops watching: Ended stays open if the process has not ended yet.
func (p *Process) Close() {
	p.closed.Store(true)
	_ = p.f.SetReadDeadline(time.Unix(1, 0))
}

// Ended is closed when the process has ended, or was killed and will run no code of its
// own any more: soon, and only then.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// HasEnded says that Ended is closed.
func (p *Process) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Killed says that the process has ended by a signal that none can turn into an orderly
// end of its own. false: it lives, ended otherwise, or the kernel does not tell. It waits
// for at most reapLimit.
func (p *Process) Killed() bool {
	if !p.HasEnded() {
		return false
	}
	<-p.known
	if !p.said || !p.status.Signaled() {
		return false
	}
	switch p.status.Signal() {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP: // somebody asked, before it could listen
		return false
	}
	return true
}

// Orderly says that the process has ended by itself and called that a success. false: it
// lives, ended otherwise, or the kernel does not tell. It waits for at most reapLimit.
func (p *Process) Orderly() bool {
	if !p.HasEnded() {
		return false
	}
	<-p.known
	return p.said && p.status.Exited() && p.status.ExitStatus() == 0
}

func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// present says that nobody has waited for the process yet, so that what /proc says under its
// number is said of it.
func present(fd int) bool { return unix.PidfdSendSignal(fd, 0, nil, 0) == nil }

// exitStatus asks for what a pidfd keeps of a process that was waited for: Linux 6.15 and
// later (PIDFD_INFO_EXIT in include/uapi/linux/pidfd.h). It waits for the parent.
func exitStatus(fd int) (unix.WaitStatus, bool) {
	for end := time.Now().Add(reapLimit); time.Now().Before(end); time.Sleep(reapPoll) {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err != nil {
			return 0, false
		}
		if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return unix.WaitStatus(info.Exit_code), true
		}
	}
	return 0, false
}
