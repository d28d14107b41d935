package core

import (
	"fmt"
	"slices"
	"time"
)

// step is one edge of the drawing above Phase.
type step struct {
	from   []Phase
	to     Phase
	raises bool // the generation: who may run or emit changes
	// change does what is particular to the edge; p is a copy, with phase and
	// generation already new.
	change func(s State, p *Protection, c Command) (Event, error)
}

var steps = map[Kind]step{
	Assign:    {from: []Phase{Solo}, to: Syncing, raises: true, change: assign},
	Synced:    {from: []Phase{Syncing}, to: Protected, change: synced},
	GoSolo:    {from: []Phase{Syncing, Protected}, to: Solo, raises: true, change: goSolo},
	FailOver:  {from: []Phase{Protected}, to: Recovering, raises: true, change: failOver},
	Move:      {from: []Phase{Protected}, to: Protected, change: move},
	Stay:      {from: []Phase{Protected}, to: Protected, change: stay},
	Degraded:  {from: []Phase{Protected}, to: Protected, change: degraded},
	AsOrdered: {from: []Phase{Protected}, to: Protected, change: asOrdered},
	Restored:  {from: []Phase{Recovering, Lost}, to: Solo, change: restored},
	Restart:   {from: []Phase{Lost}, to: Recovering, raises: true, change: restart},
	MarkLost:  {from: []Phase{Solo, Syncing, Recovering, Protected}, to: Lost, raises: true, change: markLost},
}

// advance is the set of compare-and-set: it moves one protection along one edge.
func advance(s *State, c Command) (Event, error) {
	step, ok := steps[c.Kind]
	if !ok {
		return Event{}, fmt.Errorf("%w: no kind %q; is every node on the same version of hamgr?", ErrBadCommand, c.Kind)
	}
	p, err := current(*s, c)
	if err != nil {
		return Event{}, err
	}
	if !slices.Contains(step.from, p.Phase) {
		return Event{}, fmt.Errorf("%w: %s of %q is for the phases %v, it is %s", ErrWrongPhase, c.Kind, c.Domain, step.from, p.Phase)
	}
	if step.raises {
		p.Generation++
		p.Moving = false
	}
	if p.Phase != step.to {
		p.Phase, p.Since, p.Reason = step.to, c.Time, c.Cause
	}
	if step.to != Protected {
		p.Degraded = ""
	}
	if step.to != Protected && p.Wanted != "" { // no session that could disagree
		p.Mode, p.Wanted = p.Wanted, ""
	}
	event, err := step.change(*s, &p, c)
	if err != nil {
		return Event{}, err
	}
	s.Protections = with(s.Protections, p.Domain, p)
	event.Domain, event.Generation = p.Domain, p.Generation
	return event, nil
}

func assign(s State, p *Protection, c Command) (Event, error) {
	if err := checkBackup(s, *p, c.Backup); err != nil {
		return Event{}, err
	}
	p.Backup, p.Boot = c.Backup, s.Nodes[c.Backup].Boot
	return Event{Node: p.Primary, Target: p.Backup}, nil
}

func synced(s State, p *Protection, c Command) (Event, error) {
	if s.replicaGone(*p) {
		return Event{}, replicaLost(*p)
	}
	if len(p.Refused) > 0 {
		p.TurnedDownAt = c.Time
	}
	p.Refused, p.RefusedAt, p.Fenced, p.Starts = nil, time.Time{}, true, 0
	return Event{Node: p.Primary, Target: p.Backup}, nil
}

// replicaGone says that the hamgr which held the replica of p, or was to, runs no more.
func (s State) replicaGone(p Protection) bool {
	return p.Backup != "" && s.Nodes[p.Backup].Boot != p.Boot
}

func replicaLost(p Protection) error {
	return fmt.Errorf("%w: hamgr on %s was restarted since it was to be the backup of %q", ErrReplicaLost, p.Backup, p.Domain)
}

// goSolo names the lost backup in the event. When the command blames it, the refusal is
// kept, together with those of the same spell: that is what the operator wants to read.
func goSolo(_ State, p *Protection, c Command) (Event, error) {
	gone := p.Backup
	p.Backup, p.Boot = "", ""
	if c.Backup != "" {
		if !recent(p.RefusedAt, c.Time) {
			p.Refused = nil
		}
		p.Refused = with(p.Refused, gone, c.Cause)
		p.RefusedAt = c.Time
	}
	return Event{Node: gone, Target: p.Primary}, nil
}

// failOver turns a pinned pair round: the node that failed is the one to come back to. It
// looks at the mode as it is now: the decision may have been made on another.
func failOver(s State, p *Protection, c Command) (Event, error) {
	if !s.Protections[p.Domain].holds() && !c.Silenced {
		return Event{}, fmt.Errorf("%w: %q is in mode %s; a failover there waits for the primary's lease to end", ErrUnfenced, p.Domain, Checkpoint)
	}
	if c.Planned && !s.Protections[p.Domain].Moving {
		return Event{}, fmt.Errorf("%w: %q is not to move any more", ErrStaleGeneration, p.Domain)
	}
	if s.replicaGone(*p) {
		return Event{}, replicaLost(*p)
	}
	failed := p.Primary
	p.Primary, p.Backup, p.Boot = p.Backup, "", ""
	if p.Pinned == p.Primary {
		p.Pinned = failed
	}
	p.Refused, p.RefusedAt, p.StayedAt = nil, time.Time{}, time.Time{}
	return Event{Node: failed, Target: p.Primary}, nil
}

// move asks the primary to hand over. Asked again, it is the same.
func move(_ State, p *Protection, _ Command) (Event, error) {
	p.Moving = true
	return Event{Node: p.Primary, Target: p.Backup}, nil
}

// stay takes the request back: the planned failover can no longer happen.
func stay(_ State, p *Protection, c Command) (Event, error) {
	p.Moving, p.StayedAt = false, c.Time
	return Event{Node: p.Primary}, nil
}

func degraded(_ State, p *Protection, c Command) (Event, error) {
	p.Degraded = c.Cause
	return Event{Node: p.Primary, Target: p.Backup}, nil
}

func asOrdered(_ State, p *Protection, _ Command) (Event, error) {
	p.Degraded = ""
	return Event{Node: p.Primary, Target: p.Backup}, nil
}

func aboutPrimary(_ State, p *Protection, _ Command) (Event, error) {
	return Event{Node: p.Primary}, nil
}

func restored(s State, p *Protection, c Command) (Event, error) {
	p.Cold, p.Silent, p.Unrun = false, false, false
	return aboutPrimary(s, p, c)
}

// StartsAtMost is how often a guest is started anew that does not come to be protected: one
// whose QEMU dies at once, each time, is not to be started for ever.
const StartsAtMost = 3

// restart has a lost guest started anew. On another node, what is left of it must not be
// able to speak: its last host says that nothing is, or keeps it behind a lease that is over.
func restart(s State, p *Protection, c Command) (Event, error) {
	switch _, known := s.Nodes[c.Backup]; {
	case p.OnLoss != OnLossRestart || p.Starts >= StartsAtMost:
		return Event{}, fmt.Errorf("%w: %q is not to be started anew (policy %q, started %d times)", ErrWrongPhase, p.Domain, p.OnLoss, p.Starts)
	case !known:
		return Event{}, unknownNode(c.Backup)
	case c.Backup != p.Primary && !p.Silent && !(c.Silenced && p.Fenced):
		return Event{}, fmt.Errorf("%w: %q may still run on %s; a start elsewhere waits for the lease there to end", ErrUnfenced, p.Domain, p.Primary)
	}
	failed := p.Primary
	p.Unrun = p.Unrun || c.Backup != p.Primary
	p.Primary, p.Cold, p.Silent = c.Backup, true, false
	if p.Pinned == p.Primary {
		p.Pinned = failed
	}
	p.Starts++
	return Event{Node: failed, Target: p.Primary}, nil
}

// markLost gives a guest up. One that has a replica is not lost, unless it failed by its
// own fault and its primary says so (Silenced).
func markLost(s State, p *Protection, c Command) (Event, error) {
	if s.Protections[p.Domain].Phase == Protected && !s.replicaGone(*p) && !c.Silenced {
		return Event{}, fmt.Errorf("%w: %q is protected, %s has its replica", ErrWrongPhase, p.Domain, p.Backup)
	}
	if p.Backup, p.Boot = "", ""; p.Cold { // it did not start there
		p.Cold, p.Refused, p.RefusedAt = false, with(p.Refused, p.Primary, c.Cause), c.Time
	}
	p.Silent = c.Stopped
	return aboutPrimary(s, p, c)
}
