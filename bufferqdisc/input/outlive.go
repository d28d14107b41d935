package input

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// outlive has a tap outlive the process that made it, for as long as the file returned is
// open: it is that process's file, once more (pidfd_getfd(2), Linux 5.6; needs
// CAP_SYS_PTRACE). A tap goes when nobody has it open, and its bridge then drops what comes
// for a guest whose QEMU was killed, until its switch has learned that the guest is
// elsewhere. A tap that stays is sent all of it, and it is copied like what came before.
func outlive(pid int, tap string) (fd int, err error) {
	p, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("process %d, which has %s open: %w", pid, tap, err)
	}
	defer unix.Close(p)
	proc := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(proc)
	if err != nil {
		return -1, err
	}
	for _, f := range files {
		if to, _ := os.Readlink(filepath.Join(proc, f.Name())); to != "/dev/net/tun" {
			continue
		}
		theirs, err := strconv.Atoi(f.Name())
		if err != nil {
			return -1, err
		}
		fd, err := unix.PidfdGetfd(p, theirs, 0)
		if err != nil {
			return -1, fmt.Errorf("the file of %s in process %d: %w", tap, pid, err)
		}
		if isTap(fd, tap) {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, fmt.Errorf("process %d does not have %s open", pid, tap)
}

// isTap says that a file is of the tap of that name in this network namespace; a process may
// have one of that name elsewhere.
func isTap(fd int, tap string) bool {
	req, err := unix.NewIfreq("")
	if err != nil || unix.IoctlIfreq(fd, unix.TUNGETIFF, req) != nil || req.Name() != tap {
		return false
	}
	ns, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	if err != nil {
		return false
	}
	defer unix.Close(ns)
	var its, ours unix.Stat_t
	err = errors.Join(unix.Fstat(ns, &its), unix.Stat("/proc/thread-self/ns/net", &ours))
	return err == nil && its.Ino == ours.Ino
}
