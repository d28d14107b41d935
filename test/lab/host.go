package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

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

// Port is the host's link to a network ("mgmt", "guest"), at the switch's end.
func (h *Host) Port(network string) string { return h.Name + "-" + network }

// Pid is that of the host's init, in this machine's numbering.
func (h *Host) Pid() int {
	cmd, _ := h.process()
	return cmd.Process.Pid
}

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

// PowerOff pulls the plug: all stops, the links go, so that not even a FIN gets out, and
// then the processes are ended. Returns when it began.
func (h *Host) PowerOff() (time.Time, error) {
	at, err := h.LosePower()
	if at.IsZero() {
		return at, err
	}
	h.kill()
	h.say("powered off")
	return at, err
}

// LosePower is PowerOff as the others see it; what the host has in memory stays until PowerOff.
// A host with a kernel of its own goes on in it, unheard.
func (h *Host) LosePower() (time.Time, error) {
	if h.State() == StateOff {
		return time.Time{}, &StateError{h.Name, StateOff}
	}
	at := time.Now()
	return at, errors.Join(h.unplug(), h.CutAll())
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

// CutAll cuts the host off from all networks.
func (h *Host) CutAll() error { return errors.Join(h.Cut("mgmt"), h.Cut("guest")) }

// Cut takes a host's link to a network ("mgmt", "guest") down.
func (h *Host) Cut(network string) error { return h.link(network, h.lab.handle.LinkSetDown) }

// healMost is what the kernel may take to see that a link is up, which it leaves to a worker.
const healMost = time.Second

// Heal undoes Cut, and returns when packets pass: the switch serves a port whose device says
// that it is up (net/bridge/br_if.c, br_port_carrier_check). It does not without a host's end.
func (h *Host) Heal(network string) error {
	err := h.link(network, h.lab.handle.LinkSetUp)
	for limit := time.Now().Add(healMost); err == nil && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		up := false
		err = h.link(network, func(l netlink.Link) error {
			state := l.Attrs().OperState
			up = state == netlink.OperUp || state == netlink.OperUnknown
			return nil
		})
		if up || err != nil {
			return err
		}
	}
	return cmp.Or(err, fmt.Errorf("link of %s to %s is not up after %v", h.Name, network, healMost))
}

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
