package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// startLimit bounds the start of an init; one with a kernel to boot has a limit of its own.
const startLimit = 90 * time.Second

func (h *Host) start() error {
	h.say("starting")
	if err := os.MkdirAll(h.spec.LogDir, 0o755); err != nil {
		return err
	}
	return h.fork()
}

// fork starts the init, gives it its links and lets it go on.
func (h *Host) fork() (err error) {
	done := make(chan struct{})
	h.lab.work <- func() {
		defer close(done)
		err = h.forkInit()
	}
	<-done
	return err
}

func (h *Host) forkInit() error {
	spec, err := json.Marshal(h.spec)
	if err != nil {
		return err
	}
	goOn, theirs, err := pipes()
	if err != nil {
		return err
	}
	defer goOn.Close()
	log, err := os.OpenFile(filepath.Join(h.lab.spec.RunDir, h.Name+".init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initName, string(spec)}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("lab host %s: %w (needs root)", h.Name, err)
	}
	theirs.Close()
	h.began(cmd)
	if !h.spec.Switch {
		if err := h.plug(); err != nil {
			return err
		}
	}
	if _, err := goOn.Write([]byte{1}); err != nil {
		return err
	}
	goOn.SetReadDeadline(time.Now().Add(startLimit))
	ready := make([]byte, 1)
	if _, err := goOn.Read(ready); err != nil {
		return fmt.Errorf("lab host %s did not start; see %s.init.log", h.Name, filepath.Join(h.lab.spec.RunDir, h.Name))
	}
	return nil
}

func (h *Host) began(cmd *exec.Cmd) {
	dead := make(chan struct{})
	go func() {
		cmd.Wait()
		close(dead)
	}()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cmd, h.dead = cmd, dead
}

// process is the init, nil before the first start, and what is closed at its end.
func (h *Host) process() (*exec.Cmd, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cmd, h.dead
}

// pipes is a connection to the init.
func pipes() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil { // for deadlines
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "lab"), os.NewFile(uintptr(fds[1]), "init"), nil
}

// plug gives a host a link to each switch.
func (h *Host) plug() error {
	for i, bridge := range []string{"mgmt", "guest"} {
		br, err := h.lab.handle.LinkByName(bridge)
		if err != nil {
			return err
		}
		if old, err := h.lab.handle.LinkByName(h.Port(bridge)); err == nil {
			h.lab.handle.LinkDel(old) // the kernel takes its time over a host that is gone
		}
		v := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: h.Port(bridge), MasterIndex: br.Attrs().Index},
			PeerName:  fmt.Sprintf("eth%d", i), PeerNamespace: netlink.NsPid(h.Pid()),
			PeerHardwareAddr: net.HardwareAddr{2, 0x77, 0, 0, byte(i), byte(h.spec.Number)}, // as before a restart: others remember it
		}
		if err := h.lab.handle.LinkAdd(v); err != nil {
			return fmt.Errorf("link of %s to %s: %w", h.Name, bridge, err)
		}
		if err := h.lab.handle.LinkSetUp(v); err != nil {
			return err
		}
	}
	return nil
}
