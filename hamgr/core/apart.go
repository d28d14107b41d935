package core

import (
	"fmt"
	"slices"
	"time"
)

// SeekAgain is for how long a replica that a better host has refused stays where it is, even
// beside others of its group: each time it leaves, the guest is without one for as long as
// a first copy takes.
const SeekAgain = 10 * time.Minute

// nearness is how close a host for a guest's replica is to others of its anti-affinity group.
type nearness int

const (
	apart    nearness = iota
	later             // another's replica is there: a second failure may bring them together
	together          // the death of the guest's host would
)

// seat is a place of a group's guests: all that run on primary, all that have their replica
// on backup, or all that have both. With neither it is the group's guests between two replicas.
type seat struct{ group, primary, backup string }

// groups are the names of the guests on each seat.
type groups map[seat][]string

func groupsOf(s State, now time.Time) groups {
	g := groups{}
	for _, p := range s.Protections {
		g.add(p, now)
	}
	return g
}

func (g groups) add(p Protection, now time.Time) {
	if p.AntiAffinity == "" {
		return
	}
	take := func(primary, backup string) {
		s := seat{p.AntiAffinity, primary, backup}
		g[s] = append(g[s], p.Domain)
	}
	take(p.Primary, "")
	if p.Backup != "" {
		take("", p.Backup)
		take(p.Primary, p.Backup)
	}
	if p.Phase == Syncing || p.Phase == Recovering || p.Phase == Solo && recent(p.Since, now) {
		take("", "")
	}
}

// other is the first by name on a seat beside the guest itself.
func (g groups) other(p Protection, primary, backup string) (name string) {
	for _, n := range g[seat{p.AntiAffinity, primary, backup}] {
		if n != p.Domain && (name == "" || n < name) {
			name = n
		}
	}
	return name
}

// near says how close node is as a host for the replica of p, and to which other guest.
// Should p's host die, whoever runs on node is there, and who has the same two hosts as p
// comes there, too.
func (g groups) near(p Protection, node string) (nearness, string) {
	if p.AntiAffinity == "" || node == "" {
		return apart, ""
	}
	if other := g.other(p, node, ""); other != "" {
		return together, other
	}
	if other := g.other(p, p.Primary, node); other != "" {
		return together, other
	}
	if other := g.other(p, "", node); other != "" {
		return later, other
	}
	return apart, ""
}

// say is what Protection.Together should be. Between two replicas it stays as it is.
func (g groups) say(p Protection) string {
	switch {
	case p.Phase == Syncing || p.Phase == Recovering:
		return p.Together
	case p.AntiAffinity == "" || p.Phase == Lost:
		return ""
	}
	if other := g.other(p, p.Primary, ""); other != "" {
		return fmt.Sprintf("%s of its group %s runs on %s, too", other, p.AntiAffinity, p.Primary)
	}
	if how, other := g.near(p, p.Backup); how == together {
		return fmt.Sprintf("should %s fail, it would run on %s with %s of its group %s", p.Primary, p.Backup, other, p.AntiAffinity)
	}
	return ""
}

// crowded says that something is to be done, or said, about the group of p.
func (g groups) crowded(p Protection) bool {
	how, _ := g.near(p, p.Backup)
	return p.Phase == Protected && how == together || g.say(p) != p.Together
}

func (p Protection) turnedDown(now time.Time) bool {
	return !p.TurnedDownAt.IsZero() && now.Sub(p.TurnedDownAt).Abs() < SeekAgain
}

// mayPart says that p would come to run beside another of its group, and need not. A
// replica leaves a host for that only if a better one can take it at once.
func (d *decider) mayPart(p Protection) bool {
	how, _ := d.groups.near(p, p.Backup)
	if how != together || p.Phase != Protected || p.Moving || p.turnedDown(d.view.Now) || !slices.Contains(d.view.Alive, p.Primary) {
		return false
	}
	where, ok := d.placement.best(p)
	how, _ = d.groups.near(p, where)
	return ok && how != together
}

// part takes the replica of p from its host. One of a group at a time goes without for
// that; the others wait for it.
func (d *decider) part(p Protection) (c Command, ok bool) {
	if d.groups.other(p, "", "") != "" {
		return c, false
	}
	where, _ := d.placement.choose(p)
	between := seat{group: p.AntiAffinity}
	d.groups[between] = append(d.groups[between], p.Domain)
	_, other := d.groups.near(p, p.Backup)
	return Command{Kind: GoSolo, Domain: p.Domain, Generation: p.Generation,
		Cause: fmt.Sprintf("%s can take its replica; on %s it would come to run with %s of its group %s", where, p.Backup, other, p.AntiAffinity)}, true
}

// remark has the cluster know what people are to be told of p and its group.
func (d *decider) remark(p Protection) (Command, bool) {
	c := Command{Kind: Together, Domain: p.Domain, Generation: p.Generation, Cause: d.groups.say(p)}
	if c.Cause == "" {
		c.Kind = Apart
	}
	return c, c.Cause != p.Together
}
