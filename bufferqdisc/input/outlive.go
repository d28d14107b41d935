package input

import (
	"bufio"
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
	theirs, err := findTap(fmt.Sprintf("/proc/%d", pid), tap)
	if err != nil {
		return -1, err
	}
	if fd, err = unix.PidfdGetfd(p, theirs, 0); err != nil {
		return -1, fmt.Errorf("the file of %s in process %d: %w", tap, pid, err)
	}
	if name, err := interfaceOf(fd); err != nil || name != tap { // closed meanwhile, and another opened
		unix.Close(fd)
		return -1, fmt.Errorf("process %d does not have %s open any more", pid, tap)
	}
	return fd, nil
}

func interfaceOf(fd int) (string, error) {
	req, err := unix.NewIfreq("")
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.TUNGETIFF, req)
	}
	if err != nil {
		return "", err
	}
	return req.Name(), nil
}

// findTap is the number of a tap's file in a process, by its /proc directory: the kernel says
// there which interface a file of /dev/net/tun is (drivers/net/tun.c, tun_chr_show_fdinfo).
func findTap(proc, tap string) (int, error) {
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return -1, err
	}
	for _, f := range files {
		if to, _ := os.Readlink(filepath.Join(proc, "fd", f.Name())); to != "/dev/net/tun" {
			continue
		}
		if isTap(filepath.Join(proc, "fdinfo", f.Name()), tap) {
			return strconv.Atoi(f.Name())
		}
	}
	return -1, fmt.Errorf("%s does not have %s open", proc, tap)
}

func isTap(fdinfo, tap string) bool {
	f, err := os.Open(fdinfo)
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
