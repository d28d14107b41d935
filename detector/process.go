package detector

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// reapLimit is for how long a process that has ended may wait for its parent.
	reapLimit = 50 * time.Millisecond
	reapPoll  = 500 * time.Microsecond
)

// Process is one process, watched by a pidfd (pidfd_open(2), Linux 5.10 for the
// non-blocking kind), so that a later one with the same number is not mistaken for it.
type Process struct {
	PID    int
	f      *os.File
	ended  chan struct{}
	known  chan struct{} // closed when status is what it will be
	status unix.WaitStatus
	said   bool // the kernel has said the status
}

// WatchProcess watches process pid until it ends or Close. One that is already gone is an
// error that wraps unix.ESRCH.
func WatchProcess(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("detector: watch process %d: %w", pid, err)
	}
	p := &Process{PID: pid, f: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid)), ended: make(chan struct{}), known: make(chan struct{})}
	raw, err := p.f.SyscallConn()
	if err != nil {
		p.f.Close()
		return nil, fmt.Errorf("detector: watch process %d: %w", pid, err)
	}
	go func() {
		defer p.f.Close()
		defer close(p.known)
		// A pidfd is readable once its process has ended. The runtime's poller waits.
		if raw.Read(readable) != nil {
			return
		}
		early, ok := zombieStatus(fd, pid) // before its parent takes it away
		close(p.ended)
		if p.status, p.said = early, ok; !ok {
			p.status, p.said = exitStatus(fd)
		}
	}()
	return p, nil
}

// Close stops watching: Ended stays open if the process has not ended yet.
func (p *Process) Close() { _ = p.f.SetReadDeadline(time.Unix(1, 0)) }

// Ended is closed when the process has ended, at once and only then.
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

func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// zombieStatus reads the last field of proc_pid_stat(5), which is there until the parent
// has waited for the process: that is for the pidfd to say, after the reading.
func zombieStatus(fd, pid int) (unix.WaitStatus, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil || unix.PidfdSendSignal(fd, 0, nil, 0) != nil {
		return 0, false
	}
	fields := bytes.Fields(b[max(0, bytes.LastIndexByte(b, ')')):])
	status, err := strconv.Atoi(string(fields[len(fields)-1]))
	if err != nil || len(fields) < 2 || fields[1][0] != 'Z' {
		return 0, false
	}
	return unix.WaitStatus(status), true
}

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
