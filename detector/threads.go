package detector

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

func (p *Process) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(p.PID), name)
}

// thread is what proc_pid_stat(5) says of a thread's end.
type thread struct {
	state  byte
	flags  uint64
	status unix.WaitStatus // 0 until it is known
}

const (
	pfExiting = 0x4 // PF_EXITING (include/linux/sched.h)

	statState  = 3 // fields, by their numbers in the manual
	statFlags  = 9
	statStatus = 52
)

func parseThread(stat []byte) (t thread, ok bool) {
	_, after, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
	fields := bytes.Fields(after)
	if !ok || len(fields) <= statStatus-statState {
		return t, false
	}
	flags, err := strconv.ParseUint(string(fields[statFlags-statState]), 10, 64)
	if err != nil {
		return t, false
	}
	status, err := strconv.Atoi(string(fields[statStatus-statState]))
	return thread{fields[0][0], flags, unix.WaitStatus(status)}, err == nil
}

// self is the thread that the process began with.
func (p *Process) self() (thread, bool) {
	b := make([]byte, 1024)
	n, err := p.stat.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return thread{}, false
	}
	return parseThread(b[:n])
}

// zombieStatus is there until the parent has waited for the process: that is for the
// pidfd to say, after the reading.
func (p *Process) zombieStatus(fd int) (unix.WaitStatus, bool) {
	t, ok := p.self()
	return t.status, ok && t.state == 'Z' && present(fd)
}

// dying says that a signal has put every thread of the process into its exit.
func (p *Process) dying(fd int) (unix.WaitStatus, bool) {
	t, ok := p.self()
	if !ok || t.flags&pfExiting == 0 || !t.status.Signaled() {
		return 0, false
	}
	threads, err := os.ReadDir(p.proc("task"))
	if err != nil {
		return 0, false
	}
	for _, e := range threads {
		b, err := os.ReadFile(p.proc(filepath.Join("task", e.Name(), "stat")))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if x, ok := parseThread(b); err != nil || !ok || x.flags&pfExiting == 0 {
			return 0, false
		}
	}
	return t.status, present(fd)
}
