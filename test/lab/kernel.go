package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A host of kind UML is a user-mode-linux process in the namespaces that a container has,
// so it lives, is reached and dies like one:
//
//	switch --veth-- eth0 --bridge-- tap ~~ vec0 = the kernel's eth0   (eth1 the same; the bridge is a cable)
//	commands, from this machine:     tap ~~ vec2, in a network namespace of its own
//
// Its root file system is the container's, read through hostfs, under an overlay on a
// tmpfs of its own. Directories shared with this machine are hostfs mounts too.

const (
	// In the container's file system, which the kernel sees as its hostfs.
	kernelInitPath = "/run/lab/init"
	kernelSpecPath = "/run/lab/spec.json"

	kernelBootLimit  = time.Minute
	defaultMemoryMiB = 1280

	// The link between a container and the kernel in it, and the port at either end.
	controlDevice  = "control"
	controlOutside = "169.254.77.1"
	controlInside  = "169.254.77.2"
	controlPort    = "77"
)

// showKernelInit makes this program the init of the kernel to come.
func showKernelInit(root string) error {
	to := root + kernelInitPath
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, nil, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := unix.Mount(self, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", self, err)
	}
	return nil
}

// kernel boots the host's kernel, says when it is up, and returns when it has ended.
func (s hostSpec) kernel(up func() error) error {
	spec, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(kernelSpecPath, spec, 0o644); err != nil {
		return err
	}
	if err := kernelLinks(); err != nil {
		return err
	}
	answer, err := net.Listen("tcp", net.JoinHostPort(controlOutside, controlPort))
	if err != nil {
		return err
	}
	defer answer.Close()
	cmd, err := s.kernelCommand()
	if err != nil {
		return err
	}
	_, ended, err := start(cmd)
	if err != nil {
		return fmt.Errorf("user-mode-linux: %w", err)
	}
	booted := make(chan error, 1)
	go func() { booted <- awaitKernel(answer) }()
	select {
	case err = <-booted:
	case <-ended:
		return errors.New("the kernel did not come up; its console is in console.log")
	}
	if err == nil {
		err = up()
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the kernel ended with status %d", (<-ended).ExitStatus())
}

// awaitKernel returns when the kernel's init has called.
func awaitKernel(answer net.Listener) error {
	answer.(*net.TCPListener).SetDeadline(time.Now().Add(kernelBootLimit))
	conn, err := answer.Accept()
	if err != nil {
		return fmt.Errorf("the kernel's init does not call: %w", err)
	}
	return conn.Close()
}

// kernelLinks puts a tap for the kernel beside each link of the container.
func kernelLinks() error {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
		return err // the container itself is not to speak on them
	}
	for i := range 2 {
		eth, tap, bridge := fmt.Sprintf("eth%d", i), fmt.Sprintf("tap%d", i), fmt.Sprintf("br%d", i)
		if err := errors.Join(addBridge(bridge), addTap(tap)); err != nil {
			return err
		}
		for _, port := range []string{eth, tap} {
			if err := errors.Join(enslave(port, bridge), forgetful(port)); err != nil {
				return err
			}
		}
	}
	if err := addTap(controlDevice); err != nil {
		return err
	}
	return address(controlDevice, controlOutside+"/30")
}

// forgetful has a bridge learn nothing at a port, so that it is a cable: what the switch floods
// as it does not know where it belongs has to reach the kernel, also if its sender was heard
// of at this port before.
func forgetful(port string) error {
	p, err := netlink.LinkByName(port)
	if err == nil {
		err = netlink.LinkSetLearning(p, false)
	}
	if err != nil {
		return fmt.Errorf("no learning at %s: %w", port, err)
	}
	return nil
}

func addTap(name string) error {
	a := netlink.NewLinkAttrs()
	a.Name = name
	if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: a, Mode: netlink.TUNTAP_MODE_TAP}); err != nil {
		return fmt.Errorf("tap %s: %w", name, err)
	}
	return nil
}

func (s hostSpec) kernelCommand() (*exec.Cmd, error) {
	console, err := os.OpenFile("/var/log/lab/console.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	memory := s.MemoryMiB
	if memory == 0 {
		memory = defaultMemoryMiB
	}
	cpu, err := s.cpu()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("taskset", "-c", cpu, "/usr/bin/linux.uml", fmt.Sprintf("mem=%dM", memory), "umid="+s.Name, "uml_dir=/run/lab/",
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init="+kernelInitPath,
		"con0=null,fd:1", "con=null", "ssl=null",
		s.vector(0, "tap0"), s.vector(1, "tap1"), s.vector(2, controlDevice))
	cmd.Env = []string{"PATH=" + searchPath, "HOME=/run/lab", "LD_PRELOAD=" + xstateLibrary,
		"TMPDIR=/dev/shm"} // its memory is a file in TMPDIR
	cmd.Stdout, cmd.Stderr = console, console
	return cmd, nil
}

// cpu is the one this kernel runs on. It has but one of its own, and each system call of a
// process in it wakes the kernel and then the process: between two CPUs that takes twice as
// long and more.
func (s hostSpec) cpu() (string, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return "", err
	}
	var cpus []string
	for i := range 8 * int(unsafe.Sizeof(allowed)) {
		if allowed.IsSet(i) {
			cpus = append(cpus, strconv.Itoa(i))
		}
	}
	return cpus[s.Number%len(cpus)], nil
}

// vector is one of the kernel's devices. The tap hands large packets over whole (GSO); gro
// gives them buffers that they fit into. Its address, like that of a container's link, is
// the same after a restart.
func (s hostSpec) vector(i int, tap string) string {
	return fmt.Sprintf("vec%d:transport=tap,ifname=%s,gro=1,depth=128,mac=02:78:00:00:%02x:%02x", i, tap, i, s.Number)
}
