package core

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Note is what a host remembers by itself of its part in a protection, the newest only. It
// is written before that part is played: before a guest's output is held for a backup,
// before a replica is taken in, before a guest is let run.
type Note struct {
	UUID       string `json:"uuid"`
	Generation uint64 `json:"generation"`
	Primary    string `json:"primary"`
	Backup     string `json:"backup,omitempty"` // empty: nobody but the primary can have the guest
}

// Sighting is what one host knows of one guest: of a copy that runs there, of its own part, or both.
type Sighting struct {
	Node    string `json:"node"`
	Domain  string `json:"domain"`
	Running bool   `json:"running,omitempty"`
	Marked  bool   `json:"marked,omitempty"` // hamgr stands before its network, so it may be unable to speak; else it does speak
	Note    Note   `json:"note"`             // its UUID is that of the copy, too
}

// Era is how far apart the generations before and after a loss of the state are at least:
// what was given between the saving of a state and its loss is below.
const Era = 1_000_000

// Recall says what may come back of a saved state, which can be old: guests may have been
// moved, protected and unprotected since. The saved state says what is ordered only; where
// a guest is, and that no other host can have it, is for the hosts to say. now is the state
// of a cluster without protections, seen what its hosts have to say; a host that says
// nothing is trusted with nothing. left has a reason for each guest that is left as it is.
//
// Why no copy comes to speak beside another: a guest's ownership leaves a host only for the
// backup of its newest session (FailOver), or, with OnLossRestart, when the host's lease is
// over. Each host notes its session, the backup notes that it is the backup, and that it
// takes over. So a copy whose own note has no backup, or whose backup still notes that it is the
// backup of that very session, is the guest. A copy started anew elsewhere after a lease
// speaks only with a lease of its own, which needs managers that know it; if its host has
// lost power since, nobody remembers it, and the copy from before the loss comes back.
func Recall(saved, now State, seen []Sighting) (c Command, left map[string]string) {
	r := &Reinstatement{Definitions: map[string]string{}}
	highest := max(saved.Retired, now.Retired)
	for _, p := range saved.Protections {
		highest = max(highest, p.Generation)
	}
	for _, x := range seen {
		highest = max(highest, x.Note.Generation)
	}
	r.Generation = (highest/Era + 1) * Era
	left = map[string]string{}
	for name, p := range saved.Protections {
		at, why := whereabouts(p, seen)
		if why != "" {
			left[name] = why
			continue
		}
		if p.Pinned == at {
			p.Pinned = p.Primary // they have changed places
		}
		if p.Primary = at; p.Wanted != "" {
			p.Mode = p.Wanted
		}
		p = p.afresh()
		r.Protections = append(r.Protections, p)
		if p.OnLoss == OnLossRestart {
			r.Definitions[name] = saved.Definitions[name]
		}
	}
	slices.SortFunc(r.Protections, func(a, b Protection) int { return cmp.Compare(a.Domain, b.Domain) })
	return Command{Kind: Reinstate, Generation: now.Retired, Reinstate: r}, left
}

// whereabouts is the host whose copy is the guest, or why none is known to be.
func whereabouts(p Protection, seen []Sighting) (node, why string) {
	about := slices.DeleteFunc(slices.Clone(seen), func(x Sighting) bool { return x.Domain != p.Domain || x.Note.UUID != p.UUID })
	running := slices.DeleteFunc(slices.Clone(about), func(x Sighting) bool { return !x.Running })
	if len(running) == 0 {
		return "", "it runs on no host"
	}
	newest := func(a, b Sighting) int { return cmp.Compare(a.Note.Generation, b.Note.Generation) }
	best := slices.MaxFunc(running, newest)
	for _, x := range running {
		if x.Node != best.Node && (!x.Marked || newest(x, best) == 0) {
			return "", fmt.Sprintf("it runs on %s; end all but one", names(running))
		}
	}
	if !best.Marked {
		return best.Node, ""
	}
	later := slices.MaxFunc(about, newest)
	switch n := best.Note; {
	case n.Primary != best.Node:
		return "", fmt.Sprintf("the copy on %s is held, and not known to be the guest", best.Node)
	case n.Generation < later.Note.Generation:
		return "", fmt.Sprintf("%s was given it after %s, and does not run it: the copy on %s is of a former time", later.Note.Primary, best.Node, best.Node)
	case n.Backup != "" && !slices.ContainsFunc(about, func(x Sighting) bool { return x.Node == n.Backup && x.Note == n }):
		return "", fmt.Sprintf("the copy on %s is held, and %s, its backup, cannot say that it has not taken it over", best.Node, n.Backup)
	}
	return best.Node, ""
}

func names(list []Sighting) string {
	var out []string
	for _, x := range list {
		out = append(out, x.Node)
	}
	slices.Sort(out)
	return strings.Join(out, " and ")
}
