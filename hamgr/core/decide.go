package core

import (
	"cmp"
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
	// Gone says that the hamgr which node has registered last runs there no more, by what
	// the leader sees: its port is refused, or another answers. Its replicas are gone with
	// it, before the cluster has heard of that. Nil: not known of any.
	Gone func(node string) bool
	// Alive are the nodes that could take a replica now.
	Alive []string
	// MemoryFree is what each node can give to replicas, in bytes. A node that is not
	// in it is taken to have enough.
	MemoryFree map[string]uint64
}

// Decide is what the leader should propose for state s when it sees v, the urgent first:
// failovers, then lost backups, then lost guests, then new backups, then what is only said. The same input gives
// the same answer. Each command is right on its own; proposing some of them only, or none,
// is safe.
func Decide(s State, v View) []Command {
	d := decider{state: s, view: v, nodes: make(map[string]*facts, len(s.Nodes))}
	var untidy []string
	for name, p := range s.Protections {
		primary, backup := d.facts(p.Primary), d.facts(p.Backup)
		if c, ok := d.answer(&p, primary, backup); ok {
			d.out = append(d.out, c)
		} else if p.Phase == Solo || p.Phase == Lost && p.OnLoss == OnLossRestart || backup.node.Drained || p.Phase == Protected && primary.node.Drained || p.AntiAffinity != "" && d.grouped().crowded(p) {
			untidy = append(untidy, name)
		}
	}
	slices.Sort(untidy) // each takes room from the next
	for _, name := range untidy {
		if c, ok := d.tidy(s.Protections[name]); ok {
			d.out = append(d.out, c)
		}
	}
	slices.SortFunc(d.out, func(a, b Command) int {
		return cmp.Or(cmp.Compare(urgency(a.Kind), urgency(b.Kind)), cmp.Compare(a.Domain, b.Domain))
	})
	return d.out
}

func urgency(k Kind) int {
	return slices.Index([]Kind{FailOver, GoSolo, MarkLost, Restart, Move, Assign, Together, Apart}, k)
}

// decider is one Decide. It asks the view about each node once: there are many times more
// protections than nodes.
type decider struct {
	state     State
	view      View
	nodes     map[string]*facts
	groups    groups     // as is the placement
	placement *placement // made when it is needed, which is seldom
	out       []Command
}

func (d *decider) grouped() groups {
	if d.groups == nil {
		d.groups = groupsOf(d.state, d.view.Now)
	}
	return d.groups
}

// facts are what is known of a node; nothing of no node.
type facts struct {
	node  Node
	dead  bool
	cause string
}

func (d *decider) facts(node string) *facts {
	f := d.nodes[node]
	if f == nil {
		f = &facts{node: d.state.Nodes[node]}
		if node != "" {
			f.dead, f.cause = d.view.Dead(node)
		}
		d.nodes[node] = f
	}
	return f
}

// answer is what is due to a death. With both hosts dead there is nothing yet: whichever
// comes back first is the better half. So it is while the replica seems to be gone: the
// primary may only be cut off, and its guest live.
func (d *decider) answer(p *Protection, primary, backup *facts) (c Command, ok bool) {
	gone := p.Backup != "" && p.Boot != backup.node.Boot
	if !primary.dead && !backup.dead && !gone {
		return c, false
	}
	c = Command{Domain: p.Domain, Generation: p.Generation}
	silenced := primary.dead && d.view.Lapsed != nil && d.view.Lapsed(p.Primary)
	replica := p.Phase == Protected && !gone
	switch {
	case primary.dead && replica && !backup.dead && (p.holds() || silenced) && (d.view.Gone == nil || !d.view.Gone(p.Backup)):
		c.Kind, c.Cause, c.Silenced = FailOver, primary.cause, silenced
	case primary.dead && !replica && p.Phase != Lost && d.view.Silence(p.Primary) >= LostAfter:
		c.Kind, c.Cause = MarkLost, primary.cause
	case !primary.dead && backup.dead:
		c.Kind, c.Backup, c.Cause = GoSolo, p.Backup, backup.cause
	case !primary.dead && gone: // not its fault: it may be the backup again
		c.Kind, c.Cause = GoSolo, "hamgr on "+p.Backup+" was restarted"
	default:
		return c, false
	}
	return c, true
}

// tidy is for a protection that nothing threatens: a backup where there is none, its way
// off the nodes that are to be emptied, its way apart from its group. A replica leaves a
// node for that only if another can take it at once.
func (d *decider) tidy(p Protection) (Command, bool) {
	s, v := d.state, d.view
	if d.placement == nil {
		d.placement = newPlacement(s, v, d.grouped())
	}
	c := Command{Domain: p.Domain, Generation: p.Generation}
	onDrained := p.Backup != "" && s.Nodes[p.Backup].Drained
	switch {
	case p.Phase == Lost && p.OnLoss == OnLossRestart:
		if c, ok := d.anew(p); ok {
			return c, true
		}
	case p.Phase == Solo && slices.Contains(v.Alive, p.Primary):
		if backup, ok := d.placement.choose(p); ok {
			c.Kind, c.Backup = Assign, backup
			return c, true
		}
	case onDrained && !p.Moving:
		if _, ok := d.placement.choose(p); ok {
			c.Kind, c.Cause = GoSolo, p.Backup+" is drained"
			return c, true
		}
	case d.mayPart(p):
		return d.part(p)
	case p.Phase == Protected && s.Nodes[p.Primary].Drained && !p.Moving && !recent(p.StayedAt, v.Now) && slices.Contains(v.Alive, p.Backup):
		c.Kind, c.Cause = Move, p.Primary+" is drained"
		return c, true
	}
	return d.remark(p)
}

// anew is where a lost guest is started anew: where it was, if that host lives, as its
// agent knows whether it runs there after all; elsewhere once it can be heard no more, or
// when that agent has said that it did not start.
func (d *decider) anew(p Protection) (Command, bool) {
	c := Command{Kind: Restart, Domain: p.Domain, Generation: p.Generation, Backup: p.Primary, Cause: p.Reason}
	_, refused := p.Refused[p.Primary]
	refused = refused && recent(p.RefusedAt, d.view.Now)
	primary := d.facts(p.Primary)
	switch {
	case p.Starts >= StartsAtMost:
		return c, false
	case !primary.dead && !refused:
		return c, slices.Contains(d.view.Alive, p.Primary)
	case p.Silent:
	case !p.Fenced || !primary.dead || d.view.Lapsed == nil || !d.view.Lapsed(p.Primary):
		return c, false
	default:
		c.Silenced = true
	}
	p.Pinned = "" // which is about replicas
	where, ok := d.placement.choose(p)
	c.Backup, p.Primary = where, where
	d.groups.add(p, d.view.Now)
	return c, ok
}

// holds says that the primary's output is held until it is committed, so that a primary
// without commits cannot emit (I2). In checkpoint mode it is not, nor on the way to or
// from it.
func (p Protection) holds() bool { return p.Mode == Buffer && p.Wanted == "" }

// recent takes the times of two clocks: one far ahead of the other is not recent, or a
// clock set back would bar a backup for as long.
func recent(at, now time.Time) bool {
	return !at.IsZero() && now.Sub(at).Abs() < RefusalMemory
}
