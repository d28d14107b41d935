package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pause stops all of the host's processes, as in a host that hangs. The kernel that a
// container shares with this machine still answers ping and TCP for it, a UML host's own
// does not. Signals do it, not a cgroup: what they stopped dies with the lab like anything
// else, and nothing stays behind.
func (h *Host) Pause() error {
	if err := h.want(StateRunning); err != nil {
		return err
	}
	if err := h.stop(); err != nil {
		return fmt.Errorf("pause %s: %w", h.Name, err)
	}
	h.say("paused")
	return nil
}

// stop stops all processes, of which some may be stopped.
func (h *Host) stop() error {
	stopped := map[int]bool{}
	for range 100 {
		pids, err := h.processes()
		if err != nil {
			return err
		}
		again := false
		for _, pid := range pids {
			if !stopped[pid] {
				again, stopped[pid] = true, true
				if err := tell(pid, unix.SIGSTOP); err != nil {
					return err
				}
			}
		}
		if !again { // a process that is to stop makes no new one
			return nil
		}
	}
	return errors.New("it makes processes faster than they can be stopped")
}

// Resume lets a paused host go on.
func (h *Host) Resume() error {
	if err := h.want(StatePaused); err != nil {
		return err
	}
	pids, err := h.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := tell(pid, unix.SIGCONT); err != nil {
			return fmt.Errorf("resume %s: %w", h.Name, err)
		}
	}
	h.say("goes on")
	return nil
}

func tell(pid int, s syscall.Signal) error {
	if err := unix.Kill(pid, s); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// processes are those in the host's PID namespace, its init first. Those that run inside
// a UML host's kernel are not among them: they are traced by it, get no further without
// it, and it does not expect them to stop.
func (h *Host) processes() ([]int, error) {
	init := h.Pid()
	host, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return nil, fmt.Errorf("processes of %s: %w", h.Name, err)
	}
	namespaces, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		return nil, err
	}
	pids := []int{init}
	for _, path := range namespaces {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if ns, err := os.Readlink(path); err == nil && ns == host && pid != init && (h.spec.Kind != UML || !traced(pid)) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// traced says whether another process handles what a process does. One that is gone is not.
func traced(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !bytes.Contains(status, []byte("\nTracerPid:\t0\n"))
}
