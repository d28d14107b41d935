package input

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	proc := fmt.Sprintf("/proc/%d", pid)
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return -1, err
	}
	for _, f := range files {
		if !looksLike(proc, f.Name(), tap) {
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
		if isTap(fd, tap) == nil {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, fmt.Errorf("process %d does not have %s open", pid, tap)
}

// looksLike says that a file of a process, by its /proc directory, is one of /dev/net/tun for
// an interface of that name (drivers/net/tun.c, tun_chr_show_fdinfo).
func looksLike(proc, file, tap string) bool {
	if to, _ := os.Readlink(filepath.Join(proc, "fd", file)); to != "/dev/net/tun" {
		return false
	}
	f, err := os.Open(filepath.Join(proc, "fdinfo", file))
	if err != nil { // closed meanwhile
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "iff:"); ok {
			return strings.TrimSpace(name) == tap
		}
	}
	return false
}

// isTap is no error for a file of the tap of that name in this network namespace: the process
// may have opened another file meanwhile, and have one of that name elsewhere.
func isTap(fd int, tap string) error {
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return err
	}
	ns, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	var its, ours unix.Stat_t
	if err := errors.Join(unix.Fstat(ns, &its), unix.Stat("/proc/thread-self/ns/net", &ours)); err != nil {
		return err
	}
	if req.Name() != tap || its.Ino != ours.Ino {
		return errors.New("not the tap")
	}
	return nil
}
