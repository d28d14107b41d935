package lab

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
)

// State of a host.
type State string

// What a host can be.
const (
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateOff     State = "off"
)

// StateError says that a host is not as a verb wants it.
type StateError struct {
	Host  string
	State State
}

func (e *StateError) Error() string { return fmt.Sprintf("%s is %s", e.Host, e.State) }

// State is what the kernel says of the host's init.
func (h *Host) State() State {
	cmd, dead := h.process()
	if cmd == nil {
		return StateOff
	}
	select {
	case <-dead:
		return StateOff
	default:
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err == nil && bytes.Contains(stat, []byte(") T ")) {
		return StatePaused
	}
	return StateRunning
}

// want is nil, or a StateError.
func (h *Host) want(s State) error {
	if is := h.State(); is != s {
		return &StateError{h.Name, is}
	}
	return nil
}

// Networks are the names that Cut and Heal take.
var Networks = []string{"mgmt", "guest"}

// Connected says whether a host's link to a network is up.
func (h *Host) Connected(network string) (bool, error) {
	link, err := h.lab.handle.LinkByName(h.Port(network))
	if err != nil {
		return false, fmt.Errorf("link of %s to %s: %w", h.Name, network, err)
	}
	return link.Attrs().Flags&net.FlagUp != 0, nil
}

// Hosts are all hosts, the client host last.
func (l *Lab) Hosts() []*Host {
	return slices.SortedFunc(maps.Values(l.hosts), func(a, b *Host) int { return cmp.Compare(a.spec.Number, b.spec.Number) })
}
