package core

import (
	"fmt"
	"maps"
	"slices"
)

// Manage makes part of the state who the managers are, by name, with their management
// addresses: Raft has agreed on them with its entry at index. The same ones again are no
// change.
func Manage(s *State, index uint64, managers map[string]string) {
	s.Index = index
	if maps.Equal(s.Managers, managers) {
		return
	}
	if !sameNames(s.Managers, managers) {
		s.Managed = index
	}
	s.Managers = maps.Clone(managers)
}

func sameNames(a, b map[string]string) bool {
	return slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
}

// Voters are the names of the managers, in order.
func (s State) Voters() []string { return slices.Sorted(maps.Keys(s.Managers)) }

// LeaseIndex is the index up to which a host must know what was decided to hold a lease
// (package lease, R2).
func (s State) LeaseIndex() uint64 { return max(s.Moved, s.Managed) }

// Majority is how many of so many managers decide.
func Majority(managers int) int { return managers/2 + 1 }

// CheckName says why n cannot be the node of that name.
func (s State) CheckName(n Node) error {
	old, known := s.Nodes[n.Name]
	if known && old.ID != n.ID && old.Addr != n.Addr {
		return fmt.Errorf("%w: %q is the host at %s; give the host at %s another name", ErrNodeNameTaken, n.Name, old.Addr, n.Addr)
	}
	return nil
}

// noted is an event without any other effect: who is a manager is Raft's own.
func noted(c Command) (Event, bool, error) {
	if c.Node == nil || c.Node.Name == "" {
		return Event{}, false, fmt.Errorf("%w: %s of no node", ErrBadCommand, c.Kind)
	}
	return Event{Node: c.Node.Name}, true, nil
}
