package core

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// RefusalMemory is for how long a backup that refused or failed is not asked again.
	RefusalMemory = 5 * time.Second
	// LostAfter is for how long a host must have been silent before a guest without a
	// replica is called lost. Nothing can be done for it, so there is no hurry, and a
	// network that was away for less must not cost it its protection.
	LostAfter = 10 * time.Second
)

// View is what the leader sees of the nodes at one moment.
type View struct {
	Now time.Time
	// Dead says whether a majority holds the node for failed, and what it saw. A node
	// whose host lives but whose hamgr does not counts once its grace is over.
	Dead func(node string) (dead bool, cause string)
	// Silence is for how long no sign of life has come from the node's host, its kernel
	// included; zero while there is any.
	Silence func(node string) time.Duration
	// Lapsed says that the node has no lease, nor will get one: what its outputs may do
	// without one is over (package lease, R4). Nil: not known of any.
	Lapsed func(node string) bool
	// Alive are the nodes that could take a replica now.
	Alive []string
	// MemoryFree is what each node can give to replicas, in bytes. A node that is not
	// in it is taken to have enough.
	MemoryFree map[string]uint64
}

// Decide is what the leader should propose for state s when it sees v, the urgent first:
// failovers, then lost backups, then lost guests, then new backups. The same input gives
// the same answer. Each command is right on its own; proposing some of them only, or none,
// is safe.
func Decide(s State, v View) []Command {
	placement := newPlacement(s, v)
	var out []Command
	for _, name := range slices.Sorted(maps.Keys(s.Protections)) {
		p := s.Protections[name]
		if c, ok := decide(p, v); ok {
			out = append(out, c)
		} else if c, ok := tidy(s, p, v, placement); ok {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b Command) int { return cmp.Compare(urgency(a.Kind), urgency(b.Kind)) })
	return out
}

func urgency(k Kind) int { return slices.Index([]Kind{FailOver, GoSolo, MarkLost, Move, Assign}, k) }

// decide is the answer to a death. With both hosts dead there is none yet: whichever
// comes back first is the better half.
func decide(p Protection, v View) (Command, bool) {
	c := Command{Domain: p.Domain, Generation: p.Generation}
	primaryDead, primaryCause := v.Dead(p.Primary)
	silenced := v.Lapsed != nil && v.Lapsed(p.Primary)
	backupDead, backupCause := false, ""
	if p.Backup != "" {
		backupDead, backupCause = v.Dead(p.Backup)
	}
	switch {
	case primaryDead && p.Phase == Protected && !backupDead && (p.holds() || silenced):
		c.Kind, c.Cause, c.Silenced = FailOver, primaryCause, silenced
	case primaryDead && p.Phase != Protected && p.Phase != Lost && v.Silence(p.Primary) >= LostAfter:
		c.Kind, c.Cause = MarkLost, primaryCause
	case !primaryDead && backupDead:
		c.Kind, c.Backup, c.Cause = GoSolo, p.Backup, backupCause
	default:
		return c, false
	}
	return c, true
}

// tidy is for a protection that nothing threatens: a backup where there is none, and its
// way off the nodes that are to be emptied. A replica leaves such a node only if another
// can take it at once.
func tidy(s State, p Protection, v View, pl *placement) (Command, bool) {
	c := Command{Domain: p.Domain, Generation: p.Generation}
	onDrained := p.Backup != "" && s.Nodes[p.Backup].Drained
	switch {
	case p.Phase == Solo && slices.Contains(v.Alive, p.Primary):
		backup, ok := pl.choose(p)
		c.Kind, c.Backup = Assign, backup
		return c, ok
	case onDrained && !p.Moving:
		_, ok := pl.choose(p)
		c.Kind, c.Cause = GoSolo, p.Backup+" is drained"
		return c, ok
	case p.Phase == Protected && s.Nodes[p.Primary].Drained && !p.Moving && !recent(p.StayedAt, v.Now) && slices.Contains(v.Alive, p.Backup):
		c.Kind, c.Cause = Move, p.Primary+" is drained"
		return c, true
	}
	return c, false
}

// holds says that the primary's output is held until it is committed, so that a primary
// without commits cannot emit (I2). In checkpoint mode it is not, nor on the way to or
// from it.
func (p Protection) holds() bool { return p.Mode == Buffer && p.Wanted == "" }

// placement spreads replicas over the nodes; it counts what one Decide hands out.
type placement struct {
	view     View
	nodes    []string // alive and registered, by name
	replicas map[string]int
	promised map[string]uint64 // bytes of replicas that MemoryFree may not show yet
}

func newPlacement(s State, v View) *placement {
	pl := &placement{view: v, replicas: map[string]int{}, promised: map[string]uint64{}}
	for _, n := range v.Alive {
		if node, ok := s.Nodes[n]; ok && !node.Drained {
			pl.nodes = append(pl.nodes, n)
		}
	}
	slices.Sort(pl.nodes)
	for _, p := range s.Protections {
		if p.Backup == "" {
			continue
		}
		pl.replicas[p.Backup]++
		if p.Phase == Syncing {
			pl.promised[p.Backup] += p.Memory
		}
	}
	return pl
}

// choose takes the node with the fewest replicas, the first by name among equals.
func (pl *placement) choose(p Protection) (string, bool) {
	best := ""
	for _, n := range pl.nodes {
		if pl.fits(p, n) && (best == "" || pl.replicas[n] < pl.replicas[best]) {
			best = n
		}
	}
	if best == "" {
		return "", false
	}
	pl.replicas[best]++
	pl.promised[best] += p.Memory
	return best, true
}

func (pl *placement) fits(p Protection, node string) bool {
	if node == p.Primary || p.Pinned != "" && p.Pinned != node {
		return false
	}
	if _, refused := p.Refused[node]; refused && recent(p.RefusedAt, pl.view.Now) {
		return false
	}
	if dead, _ := pl.view.Dead(node); dead {
		return false
	}
	free, known := pl.view.MemoryFree[node]
	return !known || free >= pl.promised[node]+p.Memory
}

// recent takes the times of two clocks: one far ahead of the other is not recent, or a
// clock set back would bar a backup for as long.
func recent(at, now time.Time) bool {
	return !at.IsZero() && now.Sub(at).Abs() < RefusalMemory
}
