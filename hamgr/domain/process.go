package domain

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// pidDir is where libvirt's QEMU driver keeps the PIDs of the system's domains.
const pidDir = "/run/libvirt/qemu"

// qemuPID is the PID of a domain's QEMU; 0: none is known.
func qemuPID(name string) int {
	b, err := os.ReadFile(filepath.Join(pidDir, name+".pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0
	}
	return pid
}

// alive says that a process runs: one that has ended and was not waited for does not.
func alive(pid int) bool {
	b, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return false
	}
	_, after, ok := bytes.Cut(b[max(0, bytes.LastIndexByte(b, ')')):], []byte(" "))
	return ok && len(after) > 0 && after[0] != 'Z' && after[0] != 'X'
}

func procPath(pid int, file string) string { return filepath.Join("/proc", strconv.Itoa(pid), file) }
