package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Service is a program a host's init starts, and starts again when it ends.
type Service struct {
	Name string
	Args []string
}

// Bind shows a directory of this machine inside a host, read-only.
type Bind struct{ From, To string }

// Kind is what a host is made of.
type Kind string

const (
	Container Kind = "container" // namespaces of this machine's kernel
	UML       Kind = "uml"       // a kernel of its own, user-mode-linux, in such namespaces
)

// Spec says what to make.
type Spec struct {
	Root      string // from Prepare
	RunDir    string // for logs; survives the lab
	Hosts     int    // h1, h2, ...
	Kind      Kind   // of these hosts, a container by default; the client always is one
	MemoryMiB int    // of a UML host; 1280 by default
	Services  func(host string) []Service
	Binds     []Bind
	Progress  io.Writer
}

// Host is one host of a lab.
type Host struct {
	Name string
	IP   string // on the management network
	spec hostSpec
	lab  *Lab
	mu   sync.Mutex // guards cmd and dead: Start replaces them
	cmd  *exec.Cmd
	dead chan struct{} // closed when the init has ended
}

// Lab is a set of hosts, a client host among them, and their switches.
type Lab struct {
	spec   Spec
	sw     *Host
	hosts  map[string]*Host
	work   chan func()
	handle *netlink.Handle
	closed chan struct{}
}

// Up makes the lab and waits until libvirt answers on each host.
func Up(ctx context.Context, spec Spec) (*Lab, error) {
	if spec.Kind != "" && spec.Kind != Container && spec.Kind != UML {
		return nil, fmt.Errorf("lab: no kind of host is called %q; there are %s and %s", spec.Kind, Container, UML)
	}
	l := &Lab{spec: spec, hosts: map[string]*Host{}, work: make(chan func()), closed: make(chan struct{})}
	go l.forker()
	if err := l.up(ctx); err != nil {
		l.Down()
		return nil, err
	}
	return l, nil
}

// forker runs on one thread for the life of the lab: a child's parent-death signal
// follows the thread that made it.
func (l *Lab) forker() {
	runtime.LockOSThread()
	for {
		select {
		case f := <-l.work:
			f()
		case <-l.closed:
			return
		}
	}
}

func (l *Lab) up(ctx context.Context) error {
	if err := os.MkdirAll(l.spec.RunDir, 0o755); err != nil {
		return err
	}
	l.sw = &Host{Name: "switch", lab: l, spec: hostSpec{Name: "switch", Switch: true}}
	if err := l.sw.fork(); err != nil {
		return err
	}
	if err := l.openSwitch(); err != nil {
		return err
	}
	for i := 1; i <= l.spec.Hosts; i++ {
		if err := l.add(fmt.Sprintf("h%d", i), i, false); err != nil {
			return err
		}
	}
	if err := l.add("client", 100, true); err != nil {
		return err
	}
	for i := 1; i <= l.spec.Hosts; i++ {
		if err := l.Host(fmt.Sprintf("h%d", i)).Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) openSwitch() error {
	ns, err := netns.GetFromPid(l.sw.Pid())
	if err != nil {
		return err
	}
	defer ns.Close()
	l.handle, err = netlink.NewHandleAt(ns)
	return err
}

func (l *Lab) add(name string, number int, client bool) error {
	h := &Host{Name: name, lab: l, IP: fmt.Sprintf("10.77.0.%d", number)}
	h.spec = hostSpec{Name: name, Number: number, Client: client, Root: l.spec.Root, Binds: l.spec.Binds, LogDir: filepath.Join(l.spec.RunDir, name)}
	if !client {
		h.spec.Kind, h.spec.MemoryMiB = l.spec.Kind, l.spec.MemoryMiB
	}
	if l.spec.Services != nil {
		h.spec.Services = l.spec.Services(name)
	}
	l.hosts[name] = h
	return h.start()
}

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

// Port is the host's link to a network ("mgmt", "guest"), at the switch's end.
func (h *Host) Port(network string) string { return h.Name + "-" + network }

// Pid is that of the host's init, in this machine's numbering.
func (h *Host) Pid() int {
	cmd, _ := h.process()
	return cmd.Process.Pid
}

// Switch is where the hosts' links end, its network namespace that of Pid.
func (l *Lab) Switch() *Host { return l.sw }

// Host is a host by name: h1, h2, ..., client.
func (l *Lab) Host(name string) *Host { return l.hosts[name] }

// Command is a command inside the host, ended with ctx. It needs nothing of this process
// but its program, and its exit status is that of the command, or ExitLab.
func (h *Host) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	if cmd.Err = h.want(StateRunning); cmd.Err == nil {
		name := enterName
		if h.spec.Kind == UML {
			name = execName
		}
		cmd.Args = append([]string{name, strconv.Itoa(h.Pid())}, args...)
	}
	return cmd
}

// Exec runs a command inside the host and returns its output.
func (h *Host) Exec(ctx context.Context, args ...string) (string, error) {
	out, err := h.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %v: %w: %s", h.Name, args, err, out)
	}
	return string(out), nil
}

// Ready waits until libvirt answers, two minutes at most.
func (h *Host) Ready(ctx context.Context) error {
	if h.spec.Client {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, dead := h.process()
	for {
		if _, err := h.Exec(ctx, "virsh", "-q", "version"); err == nil {
			h.say("libvirt answers")
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("libvirt on %s does not answer; see %s", h.Name, h.spec.LogDir)
		case <-dead:
			return fmt.Errorf("%s died; see %s", h.Name, h.spec.LogDir)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// PowerOff pulls the plug: the links go first, so that not even a FIN gets out, then
// all processes at once. Returns the time of the cut.
func (h *Host) PowerOff() (time.Time, error) {
	if h.State() == StateOff {
		return time.Time{}, &StateError{h.Name, StateOff}
	}
	at := time.Now()
	err := errors.Join(h.Cut("mgmt"), h.Cut("guest"))
	h.kill()
	h.say("powered off")
	return at, err
}

// kill ends the init and with it all of the host.
func (h *Host) kill() {
	if cmd, dead := h.process(); cmd != nil {
		cmd.Process.Kill()
		<-dead
	}
}

// Start boots a host that was powered off, with empty disks.
func (h *Host) Start() error {
	if err := h.want(StateOff); err != nil {
		return err
	}
	return h.start()
}

// Cut and Heal take a host's link to a network ("mgmt", "guest") down and up.
func (h *Host) Cut(network string) error { return h.link(network, h.lab.handle.LinkSetDown) }

// Heal undoes Cut.
func (h *Host) Heal(network string) error { return h.link(network, h.lab.handle.LinkSetUp) }

func (h *Host) link(network string, set func(netlink.Link) error) error {
	if h.State() == StateOff {
		return &StateError{h.Name, StateOff}
	}
	link, err := h.lab.handle.LinkByName(h.Port(network))
	if err == nil {
		err = set(link)
	}
	if err != nil {
		return fmt.Errorf("link of %s to %s: %w", h.Name, network, err)
	}
	return nil
}

func (h *Host) say(what string) {
	if h.lab.spec.Progress != nil {
		fmt.Fprintf(h.lab.spec.Progress, "  lab: %-6s %s\n", h.Name, what)
	}
}

// Down ends everything and returns when it is gone.
func (l *Lab) Down() {
	for _, h := range append(l.Hosts(), l.sw) {
		if h != nil {
			h.kill()
		}
	}
	if l.handle != nil {
		l.handle.Close()
	}
	close(l.closed)
}
