package core

import (
	"maps"
	"slices"
)

// Clone is a copy that shares no memory with s, for callers who want to write into it.
// Readers need none: see Apply.
func (s State) Clone() State {
	s.Nodes = maps.Clone(s.Nodes)
	s.Protections = maps.Clone(s.Protections)
	for name, p := range s.Protections {
		p.Refused = maps.Clone(p.Refused)
		s.Protections[name] = p
	}
	s.Definitions = maps.Clone(s.Definitions)
	s.Ended = maps.Clone(s.Ended)
	s.Managers = maps.Clone(s.Managers)
	s.Events = slices.Clone(s.Events)
	return s
}
