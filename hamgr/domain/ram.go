package domain

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MainRAM is the name of the main RAM's block, and of its file, under libvirt.
const MainRAM = "pc.ram"

// ErrTouched: a standby's QEMU has pages of its own where it should see the replica's.
var ErrTouched = errors.New("the standby has written to its memory")

// mapping is a part of a process's memory, as in /proc/PID/smaps (proc_pid_smaps(5)).
type mapping struct {
	size    uint64
	inode   uint64
	path    string
	private uint64 // bytes that are copies of its own, in memory or swapped out
}

// readMappings reads /proc/PID/maps or smaps.
func readMappings(r io.Reader) (list []mapping, err error) {
	in := bufio.NewScanner(r)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) >= 5 && strings.Contains(f[0], "-") && !strings.HasSuffix(f[0], ":") {
			m, err := readMapping(f)
			if err != nil {
				return nil, fmt.Errorf("mapping %q: %w", in.Text(), err)
			}
			list = append(list, m)
			continue
		}
		if len(list) == 0 || len(f) < 2 || f[0] != "Anonymous:" && f[0] != "Swap:" {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("mapping's %q: %w", in.Text(), err)
		}
		list[len(list)-1].private += kib << 10
	}
	return list, in.Err()
}

func readMapping(f []string) (m mapping, err error) {
	from, to, _ := strings.Cut(f[0], "-")
	a, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return m, err
	}
	b, err := strconv.ParseUint(to, 16, 64)
	if err != nil {
		return m, err
	}
	m.size = b - a
	if m.inode, err = strconv.ParseUint(f[4], 10, 64); err != nil {
		return m, err
	}
	m.path = strings.Join(f[5:], " ")
	return m, nil
}

func mappingsOf(pid int, file string) ([]mapping, error) {
	f, err := os.Open(procPath(pid, file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readMappings(f)
}

// ramFile is the RAM file that a QEMU has mapped, once all of size is.
func ramFile(pid int, size uint64) (string, bool) {
	list, err := mappingsOf(pid, "maps")
	if err != nil {
		return "", false
	}
	mapped := map[string]uint64{}
	for _, m := range list {
		if filepath.Base(m.path) == MainRAM {
			mapped[m.path] += m.size
		}
	}
	for path, n := range mapped {
		if st, err := os.Stat(path); err == nil && n >= size && uint64(st.Size()) == size {
			return path, true
		}
	}
	return "", false
}

// checkRAMFile says what is wrong with where libvirt put a RAM file.
func checkRAMFile(path, memoryDir string) error {
	if rel, err := filepath.Rel(memoryDir, path); err != nil || strings.HasPrefix(rel, "..") {
		return fmt.Errorf("libvirt keeps the memory of guests in %s, not in %s; set memory_backing_dir in qemu.conf or hamgr's memory_dir", filepath.Dir(path), memoryDir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return err
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not on a tmpfs; set memory_backing_dir in qemu.conf to a directory on one", path)
	}
	return nil
}

// untouched says that a process has no pages of its own where it maps the file at path,
// so that it sees whatever is in the file. Errors: ErrTouched.
func untouched(pid int, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	inode := st.Sys().(*syscall.Stat_t).Ino
	list, err := mappingsOf(pid, "smaps")
	if err != nil {
		return err
	}
	var size, private uint64
	for _, m := range list {
		if m.inode == inode && filepath.Base(m.path) == filepath.Base(path) {
			size += m.size
			private += m.private
		}
	}
	switch {
	case size < uint64(st.Size()):
		return fmt.Errorf("process %d maps %d of the %d bytes of %s", pid, size, st.Size(), path)
	case private != 0:
		return fmt.Errorf("%w: %d KiB of %s in process %d", ErrTouched, private>>10, path, pid)
	}
	return nil
}
