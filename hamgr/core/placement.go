package core

import (
	"cmp"
	"slices"
	"time"
)

// placement spreads replicas over the nodes; it counts what one Decide hands out.
type placement struct {
	view     View
	groups   groups
	nodes    []string // alive and registered, by name
	replicas map[string]int
	promised map[string]uint64 // bytes of replicas that MemoryFree may not show yet
}

func newPlacement(s State, v View, g groups) *placement {
	pl := &placement{view: v, groups: g, replicas: map[string]int{}, promised: map[string]uint64{}}
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

// choose takes the best node for the replica of p.
func (pl *placement) choose(p Protection) (string, bool) {
	node, ok := pl.best(p)
	if ok {
		pl.take(p, node)
	}
	return node, ok
}

func (pl *placement) take(p Protection, node string) {
	pl.replicas[node]++
	pl.promised[node] += p.Memory
	p.Backup = node
	pl.groups.add(p, pl.view.Now)
}

// best is the first by name among equals.
func (pl *placement) best(p Protection) (best string, ok bool) {
	for _, n := range pl.nodes {
		if pl.fits(p, n) && (best == "" || pl.compare(p, n, best) < 0) {
			best = n
		}
	}
	return best, best != ""
}

// compare puts the node before that is apart from p's group, then the one with fewer replicas.
func (pl *placement) compare(p Protection, a, b string) int {
	nearA, _ := pl.groups.near(p, a)
	nearB, _ := pl.groups.near(p, b)
	return cmp.Or(cmp.Compare(nearA, nearB), cmp.Compare(pl.replicas[a], pl.replicas[b]))
}

// Prefer sorts nodes by how well each would do as the host of the replica of p.
func Prefer(s State, p Protection, nodes []string) {
	pl := newPlacement(s, View{}, groupsOf(s, time.Time{}))
	slices.SortStableFunc(nodes, func(a, b string) int { return pl.compare(p, a, b) })
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
