package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const initName = "hamgr-lab-init"

// hostSpec is what a host's init is told.
type hostSpec struct {
	Name      string
	Number    int
	Switch    bool
	Client    bool
	Kind      Kind
	MemoryMiB int
	Root      string
	LogDir    string
	Binds     []Bind
	Services  []Service

	inside bool // the kernel of a UML host
}

// Init must be the first call of every program that makes labs: it turns the process
// into a host's init, or into a command on a host, where it was started as one.
func Init() {
	var err error
	switch os.Args[0] {
	case initName:
		var s hostSpec
		if err = json.Unmarshal([]byte(os.Args[1]), &s); err == nil {
			err = s.run()
		}
	case kernelInitPath:
		err = runInKernel()
	case enterName:
		command(enter)
	case execName:
		command(execute)
	default:
		return
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	os.Exit(1)
}

// ExitLab is the exit status of a command that could not be brought to its host. Any other
// is the command's own: 128 and the signal's number where a signal ended it.
const ExitLab = 125

// command ends this process as run's command did.
func command(run func(args []string) (status int, err error)) {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		status = ExitLab
	}
	os.Exit(status)
}

func (s hostSpec) run() error {
	parent := os.NewFile(3, "lab")
	if err := os.Setenv("PATH", searchPath); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return err
	}
	if !s.Switch {
		if err := s.mounts(bind); err != nil {
			return err
		}
	}
	if _, err := parent.Read(make([]byte, 1)); err != nil {
		return err
	}
	if s.Kind == UML {
		go reap()
		return s.kernel(func() error {
			_, err := parent.Write([]byte{1})
			return err
		})
	}
	if err := s.network(); err != nil {
		return err
	}
	if _, err := parent.Write([]byte{1}); err != nil {
		return err
	}
	s.serve()
	reap()
	return nil
}

// serve starts the host's services.
func (s hostSpec) serve() {
	if !s.Client && !s.Switch {
		go supervise(Service{Name: "libvirtd", Args: []string{"libvirtd"}})
	}
	for _, svc := range s.Services {
		go supervise(svc)
	}
}

// children are those that somebody waits for, by pid.
var children = struct {
	sync.Mutex
	m map[int]child
}{m: map[int]child{}}

type child struct {
	process *os.Process
	ended   chan syscall.WaitStatus // gets one
}

// reap waits for what is ours and what was orphaned; it never returns.
func reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		children.Lock()
		if c, ok := children.m[pid]; ok {
			c.process.Release()
			c.ended <- ws
			delete(children.m, pid)
		}
		children.Unlock()
	}
}

// start starts a command that reap waits for; cmd.Wait is not for an init.
func start(cmd *exec.Cmd) (pid int, ended <-chan syscall.WaitStatus, err error) {
	children.Lock()
	defer children.Unlock()
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	c := child{cmd.Process, make(chan syscall.WaitStatus, 1)}
	pid = cmd.Process.Pid
	children.m[pid] = c
	return pid, c.ended, nil
}

// supervise keeps a service running, as systemd's Restart=always would.
func supervise(svc Service) {
	for {
		log, err := os.OpenFile("/var/log/lab/"+svc.Name+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			cmd := exec.Command(svc.Args[0], svc.Args[1:]...)
			cmd.Stdout, cmd.Stderr = log, log
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			_, ended, err := start(cmd)
			if err == nil {
				<-ended
			}
			fmt.Fprintf(log, "lab: %s ended %v\n", svc.Name, err)
			log.Close()
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// mounts builds the host's file systems on a tmpfs and moves in; show mounts a directory
// that the host shares with this machine.
func (s hostSpec) mounts(show func(b Bind, root string) error) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	base := "/mnt"
	if err := unix.Mount("lab", base, "tmpfs", 0, ""); err != nil {
		return err
	}
	root := base + "/root"
	for _, d := range []string{"/upper", "/work", "/root"} {
		if err := os.Mkdir(base+d, 0o755); err != nil {
			return err
		}
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", s.Root, base, base)
	if err := unix.Mount("lab", root, "overlay", 0, opts); err != nil {
		return fmt.Errorf("overlay on %s: %w", s.Root, err)
	}
	if err := s.systemMounts(root); err != nil {
		return err
	}
	for _, b := range append(s.Binds, Bind{s.LogDir, "/var/log/lab"}) {
		if err := os.MkdirAll(root+b.To, 0o755); err != nil {
			return err
		}
		if err := show(b, root); err != nil {
			return err
		}
	}
	if s.Kind == UML && !s.inside {
		if err := showKernelInit(root); err != nil {
			return err
		}
	}
	if err := s.writeConfig(root); err != nil {
		return err
	}
	old := root + "/mnt"
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Unmount("/mnt", unix.MNT_DETACH)
}

func bind(b Bind, root string) error {
	if err := unix.Mount(b.From, root+b.To, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", b.From, err)
	}
	return nil
}

func (s hostSpec) systemMounts(root string) error {
	for _, m := range []struct{ kind, to string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}, {"tmpfs", "/dev"},
		{"tmpfs", "/dev/shm"}, {"devpts", "/dev/pts"},
	} {
		if err := os.MkdirAll(root+m.to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, root+m.to, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	for name, dev := range map[string][2]uint32{
		"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "tty": {5, 0}, "ptmx": {5, 2}, "net/tun": {10, 200},
	} {
		path := filepath.Join(root, "dev", name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(dev[0], dev[1]))); err != nil {
			return fmt.Errorf("mknod %s: %w", name, err)
		}
	}
	return nil
}

// qemuConf lets libvirt run QEMU where there is neither systemd nor a cgroup tree.
const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
memory_backing_dir = "/dev/shm/hamgr"
`

// slowConf spares libvirt some 500 questions to each new QEMU about its processor, which
// QEMU's monitor reads octet by octet, each octet five system calls: seconds, where those
// are slow.
const slowConf = `capability_filters = [ "cpu-unavailable-features" ]
`

func (s hostSpec) writeConfig(root string) error {
	conf := qemuConf
	if s.Kind == UML {
		conf += slowConf
	}
	os.MkdirAll(root+"/etc/libvirt", 0o755)
	os.MkdirAll(root+"/dev/shm/hamgr", 0o755)
	if err := os.WriteFile(root+"/etc/libvirt/qemu.conf", []byte(conf), 0o644); err != nil {
		return err
	}
	return os.WriteFile(root+"/etc/hostname", []byte(s.Name+"\n"), 0o644)
}

// network configures the links this host was given.
func (s hostSpec) network() error {
	if err := address("lo"); err != nil {
		return err
	}
	if s.Switch {
		if err := addBridge("mgmt"); err != nil {
			return err
		}
		return addBridge("guest")
	}
	mgmt := fmt.Sprintf("10.77.0.%d/24", s.Number)
	guest := []string{fmt.Sprintf("10.78.0.%d/24", s.Number), fmt.Sprintf("fd78::%d/64", s.Number)}
	if err := address("eth0", mgmt); err != nil {
		return err
	}
	if s.Client {
		return address("eth1", guest...)
	}
	if err := addBridge("br0"); err != nil {
		return err
	}
	if err := address("br0", guest...); err != nil {
		return err
	}
	return enslave("eth1", "br0")
}

func addBridge(name string) error {
	off := false
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &off}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("bridge %s: %w", name, err)
	}
	return netlink.LinkSetUp(br)
}

func enslave(port, bridge string) error {
	p, err := netlink.LinkByName(port)
	if err != nil {
		return err
	}
	b, err := netlink.LinkByName(bridge)
	if err == nil {
		err = netlink.LinkSetMaster(p, b)
	}
	if err == nil {
		err = netlink.LinkSetUp(p)
	}
	return err
}

func address(dev string, cidrs ...string) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	for _, c := range cidrs {
		a, err := netlink.ParseAddr(c)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("%s on %s: %w", c, dev, err)
		}
	}
	return netlink.LinkSetUp(link)
}
