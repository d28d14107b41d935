package core

import (
	"fmt"
	"maps"
	"time"
)

// DefaultEpoch is the epoch interval of a protection that asks for none.
const DefaultEpoch = 25 * time.Millisecond

// Apply makes one committed command part of the state and appends its event. index is
// the command's place in the log. A refused command leaves the state as it was but for
// State.Index, and the error says why (see the sentinels).
//
// Apply replaces maps and slices and never writes into them: a plain copy of the State
// taken before remains a valid snapshot, without a lock, for as long as anyone reads it.
func Apply(s *State, index uint64, c Command) error {
	next := *s
	s.Index, next.Index = index, index
	event, changed, err := apply(&next, c)
	if err != nil {
		return err
	}
	if changed {
		if c.Kind == FailOver || c.Kind == Restart || c.Kind == Reinstate {
			next.Moved = index
		}
		event.Index, event.Time, event.Kind, event.Cause = index, c.Time, c.Kind, c.Cause
		next.Events = appended(s.Events, event)
	}
	*s = next
	return nil
}

func apply(s *State, c Command) (event Event, changed bool, err error) {
	switch c.Kind {
	case RegisterNode:
		return register(s, c)
	case Drain, Undrain:
		return drain(s, c)
	case ManagerAdded, ManagerRemoved:
		return noted(c)
	case Protect:
		event, err = protect(s, c)
	case Unprotect:
		event, err = unprotect(s, c)
	case Reinstate:
		event, err = reinstate(s, c)
	case Trouble:
		var p Protection
		p, err = current(*s, c)
		event = Event{Domain: p.Domain, Node: p.Primary, Generation: p.Generation}
	case Together, Apart, ProbeFailed, ProbePassed:
		return note(s, c)
	case WantMode, SetMode:
		event, err = changeMode(s, c)
	default:
		event, err = advance(s, c)
	}
	return event, err == nil, err
}

// register takes a node in, or notes its new address. The same registration again, as
// every restart sends it, is not an event. What the host has noted of generations holds for
// a cluster that has lost its state, too: numbers do not go back.
func register(s *State, c Command) (Event, bool, error) {
	if c.Node == nil || c.Node.Name == "" || c.Node.ID == "" || c.Node.Addr == "" {
		return Event{}, false, fmt.Errorf("%w: %s needs a node with name, id and address", ErrBadCommand, c.Kind)
	}
	if c.Generation > MaxGeneration {
		return Event{}, false, fmt.Errorf("%w: %s of %q has noted generation %d", ErrBadCommand, c.Kind, c.Node.Name, c.Generation)
	}
	n := *c.Node
	if err := s.CheckName(n); err != nil {
		return Event{}, false, err
	}
	s.Retired = max(s.Retired, c.Generation)
	old, known := s.Nodes[n.Name]
	n.Drained = old.Drained
	if known && old == n {
		return Event{}, false, nil
	}
	s.Nodes = with(s.Nodes, n.Name, n)
	return Event{Node: n.Name}, true, nil
}

// drain marks a node to be emptied or used again; Decide does the rest.
func drain(s *State, c Command) (Event, bool, error) {
	if c.Node == nil || c.Node.Name == "" {
		return Event{}, false, fmt.Errorf("%w: %s of no node", ErrBadCommand, c.Kind)
	}
	n, ok := s.Nodes[c.Node.Name]
	if !ok {
		return Event{}, false, unknownNode(c.Node.Name)
	}
	if n.Drained == (c.Kind == Drain) {
		return Event{}, false, nil
	}
	n.Drained = c.Kind == Drain
	s.Nodes = with(s.Nodes, n.Name, n)
	return Event{Node: n.Name}, true, nil
}

func protect(s *State, c Command) (Event, error) {
	if c.Protection == nil {
		return Event{}, fmt.Errorf("%w: %s of %q says nothing about how", ErrBadCommand, c.Kind, c.Domain)
	}
	p := *c.Protection
	if err := checkNew(*s, p); err != nil {
		return Event{}, err
	}
	p = p.afresh()
	p.Generation = s.Retired + 1
	p.Phase, p.Since, p.Reason = Syncing, c.Time, c.Cause
	if p.Backup == "" {
		p.Phase = Solo // Decide finds it one
	}
	if p.OnLoss == OnLossRestart {
		if c.Definition == "" {
			return Event{}, noDefinition(p)
		}
		s.Definitions = with(s.Definitions, p.Domain, c.Definition)
	}
	p.Boot = s.Nodes[p.Backup].Boot
	s.Protections = with(s.Protections, p.Domain, p)
	return Event{Domain: p.Domain, Node: p.Primary, Target: p.Backup, Generation: p.Generation}, nil
}

func checkNew(s State, p Protection) error {
	if err := checkOrder(s, p); err != nil {
		return err
	}
	if p.Pinned != "" {
		if err := checkBackup(s, p, p.Pinned); err != nil {
			return err
		}
	}
	if p.Backup == "" {
		return nil
	}
	return checkBackup(s, p, p.Backup)
}

// checkOrder is of all but the backup.
func checkOrder(s State, p Protection) error {
	if p.Domain == "" || p.UUID == "" || p.Primary == "" {
		return fmt.Errorf("%w: a protection needs a domain, its UUID and a primary (got %q, %q, %q)",
			ErrBadCommand, p.Domain, p.UUID, p.Primary)
	}
	if p.Mode != "" {
		if err := checkMode(p.Mode); err != nil {
			return err
		}
	}
	if p.OnLoss != "" && p.OnLoss != OnLossStop && p.OnLoss != OnLossRestart {
		return fmt.Errorf("%w: no policy %q; there are %q and %q", ErrBadCommand, p.OnLoss, OnLossStop, OnLossRestart)
	}
	if p.Epoch < 0 {
		return fmt.Errorf("%w: an epoch of %v for %q", ErrBadCommand, p.Epoch, p.Domain)
	}
	if q := p.Probe; q.URL != "" && (q.Interval <= 0 || q.Timeout <= 0 || q.Failures <= 0) {
		return fmt.Errorf("%w: a probe of %q every %v that waits for %v and counts after %d failures", ErrBadCommand, p.Domain, q.Interval, q.Timeout, q.Failures)
	}
	for _, other := range s.Protections {
		if other.Domain == p.Domain || other.UUID == p.UUID {
			return fmt.Errorf("%w: %q (UUID %s) has its primary on %s; unprotect it first",
				ErrAlreadyProtected, other.Domain, other.UUID, other.Primary)
		}
	}
	if _, ok := s.Nodes[p.Primary]; !ok {
		return unknownNode(p.Primary)
	}
	return nil
}

// checkBackup says why node cannot hold the replica of p, as far as the state knows.
func checkBackup(s State, p Protection, node string) error {
	if _, ok := s.Nodes[node]; !ok {
		return unknownNode(node)
	}
	if s.Nodes[node].Drained {
		return fmt.Errorf("%w: %s is drained; hamgr undrain %s first, or choose another", ErrBadCommand, node, node)
	}
	if node == p.Primary {
		return fmt.Errorf("%w: %s runs %q, its backup must be another node", ErrBadCommand, node, p.Domain)
	}
	if p.Pinned != "" && p.Pinned != node {
		return fmt.Errorf("%w: %q may have its backup on %s only, not on %s", ErrBadCommand, p.Domain, p.Pinned, node)
	}
	return nil
}

func unknownNode(name string) error {
	return fmt.Errorf("%w: %q has not registered; start hamgr on it", ErrUnknownNode, name)
}

// unprotect ends a protection. Generation 0 is the operator's "whatever it has come to".
func unprotect(s *State, c Command) (Event, error) {
	if c.Generation == 0 {
		c.Generation = s.Protections[c.Domain].Generation
	}
	p, err := current(*s, c)
	if err != nil {
		return Event{}, err
	}
	s.Retired = max(s.Retired, p.Generation)
	s.Protections = maps.Clone(s.Protections)
	delete(s.Protections, c.Domain)
	s.Definitions = maps.Clone(s.Definitions)
	delete(s.Definitions, c.Domain)
	s.Ended = remembered(s.Ended, p.Domain, Ended{UUID: p.UUID, Primary: p.Primary, Generation: p.Generation, Index: s.Index})
	return Event{Domain: p.Domain, Node: p.Primary, Target: p.Backup, Generation: p.Generation}, nil
}

// remembered is ended plus e, without the oldest if there are too many.
func remembered(ended map[string]Ended, domain string, e Ended) map[string]Ended {
	next := with(ended, domain, e)
	if len(next) <= EndedKept {
		return next
	}
	oldest := domain
	for name, x := range next {
		if x.Index < next[oldest].Index {
			oldest = name
		}
	}
	delete(next, oldest)
	return next
}

func checkMode(m Mode) error {
	if m != Buffer && m != Checkpoint {
		return fmt.Errorf("%w: no mode %q; there are %q and %q", ErrBadCommand, m, Buffer, Checkpoint)
	}
	return nil
}

// changeMode asks for a mode, or puts it in force. Where nothing is to be changed by the
// primary, outside of a session, it is in force at once.
func changeMode(s *State, c Command) (Event, error) {
	p, err := current(*s, c)
	if err == nil {
		err = checkMode(c.Mode)
	}
	if err != nil {
		return Event{}, err
	}
	switch {
	case c.Kind == WantMode && (p.Phase == Syncing || p.Phase == Protected) && c.Mode != p.Mode:
		p.Wanted = c.Mode
	case c.Kind == SetMode && c.Mode != p.Wanted:
		return Event{}, fmt.Errorf("%w: %q is to go to mode %q, not to %q", ErrStaleGeneration, p.Domain, p.Wanted, c.Mode)
	default:
		p.Mode, p.Wanted = c.Mode, ""
	}
	s.Protections = with(s.Protections, p.Domain, p)
	return Event{Domain: p.Domain, Node: p.Primary, Target: string(c.Mode), Generation: p.Generation}, nil
}

// current is the compare of compare-and-set: the protection of c, if c was decided on
// its present generation.
func current(s State, c Command) (Protection, error) {
	p, ok := s.Protections[c.Domain]
	if !ok {
		return p, fmt.Errorf("%w: %s of %q", ErrUnknownDomain, c.Kind, c.Domain)
	}
	if c.Generation != p.Generation {
		return p, fmt.Errorf("%w: %s of %q was decided on generation %d, it is at %d now (%s, primary %s)",
			ErrStaleGeneration, c.Kind, c.Domain, c.Generation, p.Generation, p.Phase, p.Primary)
	}
	return p, nil
}

// with is m plus one entry, leaving m alone.
func with[V any](m map[string]V, key string, value V) map[string]V {
	next := make(map[string]V, len(m)+1)
	maps.Copy(next, m)
	next[key] = value
	return next
}

// appended is events plus e, in its own memory, no longer than EventsKept.
func appended(events []Event, e Event) []Event {
	if extra := len(events) + 1 - EventsKept; extra > 0 {
		events = events[extra:]
	}
	next := make([]Event, 0, len(events)+1)
	return append(append(next, events...), e)
}
