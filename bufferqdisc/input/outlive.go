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
	files, err := tunFiles(pid)
	if err != nil {
		return -1, err
	}
	if fd, err = borrow(p, files, tap); err != nil {
		return -1, fmt.Errorf("the file of %s in process %d: %w", tap, pid, err)
	}
	return fd, nil
}

// tunFiles are the numbers that a process has for files of /dev/net/tun.
func tunFiles(pid int) (files []int, err error) {
	proc := fmt.Sprintf("/proc/%d/fd", pid)
	all, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if to, _ := os.Readlink(filepath.Join(proc, f.Name())); to != "/dev/net/tun" {
			continue
		}
		n, err := strconv.Atoi(f.Name())
		if err != nil {
			return nil, err
		}
		files = append(files, n)
	}
	return files, nil
}

// borrow takes, of a process's files, the one of a tap. One that it has closed since it was
// asked for them is none.
func borrow(pidfd int, files []int, tap string) (fd int, err error) {
	for _, theirs := range files {
		fd, err := unix.PidfdGetfd(pidfd, theirs, 0)
		if errors.Is(err, unix.EBADF) {
			continue
		}
		if err != nil {
			return -1, err
		}
		if isTap(fd, tap) {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, errors.New("there is none")
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
