package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

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

// Switch is where the hosts' links end, its network namespace that of Pid.
func (l *Lab) Switch() *Host { return l.sw }

// Host is a host by name: h1, h2, ..., client.
func (l *Lab) Host(name string) *Host { return l.hosts[name] }

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
