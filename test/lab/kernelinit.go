package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// searchPath is PATH on a host.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/hamgr/bin"

// preload are the modules that nothing asks for by its own name in time; the kernel loads
// the others when they are used, as on any host.
var preload = []string{"overlay", "ipv6", "tun"}

// runInKernel is the init of a host's own kernel.
func runInKernel() error {
	text, err := os.ReadFile(kernelSpecPath)
	if err != nil {
		return err
	}
	var s hostSpec
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	s.inside, s.Root = true, "/"
	os.Setenv("PATH", searchPath)
	if err := s.settle(); err != nil {
		return err
	}
	agent, err := listenApart()
	if err != nil {
		return fmt.Errorf("the agent's network: %w", err)
	}
	go serveCommands(agent)
	s.serve()
	reap()
	return nil
}

// settle makes a host out of a kernel that has just booted.
func (s hostSpec) settle() error {
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if out, err := exec.Command("modprobe", append([]string{"-a"}, preload...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe: %w: %s", err, out)
	}
	hostfs := func(b Bind, root string) error { return unix.Mount("lab", root+b.To, "hostfs", 0, b.To) }
	if err := s.mounts(hostfs); err != nil {
		return err
	}
	// What is written to hostfs, logs mostly, shall be there when the power goes.
	for _, f := range []string{"dirty_writeback_centisecs", "dirty_expire_centisecs"} {
		if err := os.WriteFile("/proc/sys/vm/"+f, []byte("5"), 0); err != nil {
			return err
		}
	}
	for i := range 2 {
		if err := rename(fmt.Sprintf("vec%d", i), fmt.Sprintf("eth%d", i)); err != nil {
			return err
		}
	}
	return s.network()
}

func rename(from, to string) error {
	l, err := netlink.LinkByName(from)
	if err != nil {
		return err
	}
	return netlink.LinkSetName(l, to)
}

// listenApart moves the link for commands into a network namespace of its own, where the
// host does not see it and no test can break it, listens there, and tells the container
// that it does.
func listenApart() (net.Listener, error) {
	type result struct {
		net.Listener
		error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: nothing else may run in that namespace
		l, err := listenInNewNamespace()
		done <- result{l, err}
	}()
	r := <-done
	return r.Listener, r.error
}

func listenInNewNamespace() (net.Listener, error) {
	link, err := netlink.LinkByName("vec2")
	if err != nil {
		return nil, err
	}
	outer, err := netlink.NewHandle()
	if err != nil {
		return nil, err
	}
	defer outer.Close()
	apart, err := netns.New()
	if err != nil {
		return nil, err
	}
	defer apart.Close()
	if err := outer.LinkSetNsFd(link, int(apart)); err != nil {
		return nil, err
	}
	if err := address("vec2", controlInside+"/30"); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(controlInside, controlPort))
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(controlOutside, controlPort), kernelBootLimit)
	if err != nil {
		return nil, err
	}
	return l, conn.Close()
}
