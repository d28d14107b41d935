package core

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// site is a cluster and its hosts, as far as one guest matters: each host has at most one
// copy of it, does what package rules would have it do about the state it has seen, and
// notes what Recall goes by. Its hosts are cut off, lose power and are slow to act.
type site struct {
	*testing.T
	random  *rand.Rand
	seed    uint64
	story   []string
	s       State
	saved   []State
	hosts   map[string]*siteHost
	born    int    // copies so far
	follows int    // the newest that went on from a replica: what was before it is over
	highest uint64 // generation ever given
	tick    int
}

type siteHost struct {
	name    string
	boot    int
	joined  bool // is a node of the present cluster
	hears   bool
	note    Note
	copy    *siteCopy
	replica uint64 // the generation of the one it holds, 0: none
}

type siteCopy struct {
	born   int  // the newest is the guest
	held   bool // its output
	gate   bool // its output passes only with a lease
	lease  bool
	marked bool
}

func (c *siteCopy) speaks() bool { return c != nil && !c.held && (!c.gate || c.lease) }

var siteHosts = []string{"h1", "h2", "h3", "h4"}

func newSite(t *testing.T, seed uint64) *site {
	w := &site{T: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), hosts: map[string]*siteHost{}}
	for _, n := range siteHosts {
		w.hosts[n] = &siteHost{name: n, hears: true}
		w.join(w.hosts[n])
	}
	w.start(w.hosts["h1"])
	return w
}

func (w *site) join(h *siteHost) {
	h.joined, h.hears = true, true
	w.apply(Command{Kind: RegisterNode, Node: &Node{Name: h.name, ID: h.name, Addr: h.name, Boot: fmt.Sprint(h.boot)}})
}

func (w *site) start(h *siteHost) {
	w.born++
	h.copy = &siteCopy{born: w.born}
}

func (w *site) apply(c Command) bool {
	w.tick++
	c.Time = time.Unix(int64(w.tick), 0)
	if err := Apply(&w.s, w.s.Index+1, c); err != nil {
		return false
	}
	if p, ok := w.s.Protections["g1"]; ok {
		w.highest = max(w.highest, p.Generation)
	}
	if w.s.Moved == w.s.Index {
		for _, h := range w.hosts { // who has not heard of it gets no lease
			if h.copy != nil {
				h.copy.lease = false
			}
		}
	}
	return true
}

// about is a command on the guest, as it is now.
func (w *site) about(k Kind) Command {
	p := w.s.Protections["g1"]
	return Command{Kind: k, Domain: "g1", Generation: p.Generation, Backup: p.Backup}
}

// owner is the host of the newest copy, if that still runs.
func (w *site) owner() *siteHost {
	for _, h := range w.hosts {
		if h.copy != nil && h.copy.born == w.born {
			return h
		}
	}
	return nil
}

// check is I2, and that no copy speaks which another has followed.
func (w *site) check(after string) {
	speak := 0
	for _, n := range siteHosts {
		h := w.hosts[n]
		if !h.copy.speaks() {
			continue
		}
		if speak++; speak > 1 || h.copy.born < w.follows {
			w.fail("after %s, the copy on %s speaks beside or behind a later one: %+v, %+v", after, h.name, *h.copy, w.s.Protections["g1"])
		}
	}
}

// act is what a host does about the state as it is now.
func (w *site) act(h *siteHost) {
	if !h.hears || !h.joined {
		return
	}
	p, ok := w.s.Protections["g1"]
	e, ended := w.s.Ended["g1"]
	switch {
	case ok && p.Primary == h.name:
		w.lead(h, p)
	case ok && h.copy != nil && h.copy.marked, !ok && ended && e.Primary != h.name && h.copy != nil && h.copy.marked:
		h.copy = nil // fenced
	case !ok && ended && e.Generation >= h.note.Generation && h.copy != nil: // released
		h.copy.held, h.copy.gate, h.copy.marked = false, false, false
	}
	if !ok && ended {
		h.note = Note{}
	}
	if p.Backup != h.name && p.Primary != h.name {
		h.replica = 0
	}
}

func (w *site) lead(h *siteHost, p Protection) {
	alone := Note{UUID: "u", Generation: p.Generation, Primary: h.name}
	lost := w.about(MarkLost)
	lost.Stopped = true
	switch {
	case p.Phase == Recovering && h.replica == p.Generation-1 && h.replica != 0 && !p.Cold:
		h.note, h.replica = alone, 0
		w.start(h)
		w.follows = w.born
		h.copy.marked, h.copy.gate, h.copy.lease = true, p.OnLoss == OnLossRestart, true
		w.apply(w.about(Restored))
	case p.Phase == Recovering && p.Cold && (h.copy == nil || p.Unrun):
		h.note = alone
		w.start(h)
		h.copy.marked, h.copy.gate, h.copy.lease = true, true, true
		w.apply(w.about(Restored))
	case p.Phase == Recovering && !p.Cold:
		w.apply(lost)
	case p.Phase == Lost && h.copy != nil && p.Unrun:
		h.copy = nil
	case p.Phase == Recovering || p.Phase == Lost && h.copy != nil:
		w.apply(w.about(Restored))
	case h.copy == nil && p.Phase != Lost:
		w.apply(lost)
	case p.Phase == Solo:
		h.note, h.copy.held = alone, false
		h.copy.gate, h.copy.lease = p.OnLoss == OnLossRestart, true
		h.copy.marked = h.copy.marked && w.oneIn(2, "marks stay") || h.copy.gate
	case p.Phase == Syncing || p.Phase == Protected:
		w.session(h, p)
	}
	if h.copy != nil {
		h.copy.lease = true
	}
}

// session fails or goes on, as far as it may: each step may be the last before a disaster.
func (w *site) session(h *siteHost, p Protection) {
	b := w.hosts[p.Backup]
	if p.Phase == Protected && b.replica == p.Generation {
		return
	}
	if !b.hears || b.copy != nil || fmt.Sprint(b.boot) != p.Boot || w.oneIn(5, "session fails") {
		w.apply(w.about(GoSolo))
		return
	}
	h.note = Note{UUID: "u", Generation: p.Generation, Primary: h.name, Backup: b.name}
	h.copy.marked = true
	if w.oneIn(5, "session stops before its replica") {
		return
	}
	b.note = h.note
	if w.oneIn(5, "session stops before it holds") {
		return
	}
	h.copy.held, b.replica = true, p.Generation
	if !w.oneIn(5, "session stops before it is told") {
		w.apply(w.about(Synced))
	}
}

func (w *site) oneIn(n int, what string) bool {
	yes := w.random.IntN(n) == 0
	if yes {
		w.story = append(w.story, what)
	}
	return yes
}

func pick[T any](w *site, from ...T) T { return from[w.random.IntN(len(from))] }

func (w *site) fail(format string, args ...any) {
	w.Fatalf("seed %d: %s\n%s", w.seed, fmt.Sprintf(format, args...), strings.Join(w.story, "\n"))
}

// step is one thing that happens.
func (w *site) step() string {
	h := w.hosts[pick(w, siteHosts...)]
	p, protected := w.s.Protections["g1"]
	primary, owner := w.hosts[p.Primary], w.owner()
	what := pick(w, "act", "act", "act", "act", "act", "act", "cut", "cut", "heal", "heal", "reboot", "fail over", "fail over", "assign", "assign", "assign",
		"restart", "protect", "protect", "protect", "unprotect", "move", "save", "start")
	if what == "act" && protected && w.oneIn(2, "the primary is quick") {
		h = primary
	}
	w.story = append(w.story, what+" "+h.name)
	switch {
	case what == "act":
		w.act(h)
	case what == "cut":
		h.hears = false
		if h.copy != nil {
			h.copy.lease = false
		}
	case what == "heal" && h.joined:
		h.hears = true
	case what == "heal": // late for the new cluster
		w.join(h)
	case what == "reboot": // and its hamgr is back at once
		h.boot, h.copy, h.note, h.replica = h.boot+1, nil, Note{}, 0
		w.join(h)
	case what == "fail over" && protected && !primary.hears:
		w.apply(w.about(FailOver))
	case what == "assign" && protected:
		c := w.about(Assign)
		c.Backup = h.name
		w.apply(c)
	case what == "restart" && protected && !primary.hears:
		if p.Phase == Solo || p.Phase == Syncing {
			w.apply(w.about(MarkLost))
		}
		c := w.about(Restart)
		c.Backup, c.Silenced = h.name, true
		w.apply(c)
	case what == "protect" && !protected && owner != nil && owner.joined && owner.hears && owner.copy.speaks():
		policy := pick(w, OnLossStop, OnLossStop, OnLossRestart)
		w.apply(Command{Kind: Protect, Definition: "<domain/>", Protection: &Protection{Domain: "g1", UUID: "u", Primary: owner.name, OnLoss: policy}})
	case what == "unprotect" && protected:
		w.apply(w.about(Unprotect))
	case what == "move" && !protected && owner != nil && h.copy == nil && !owner.copy.marked: // by hand
		h.copy, owner.copy = owner.copy, nil
	case what == "start" && !protected && owner == nil && h.copy == nil: // by hand
		w.start(h)
	case what == "save":
		w.saved = append(w.saved, w.s)
	}
	return what + " " + h.name
}

// disaster takes the managers' disks; some hosts do not come back to the new cluster, or
// late. Then a state of any age is restored.
func (w *site) disaster() (back bool) {
	w.s = State{}
	for _, n := range siteHosts {
		h := w.hosts[n]
		h.joined, h.hears, h.replica = false, false, 0
		if h.copy != nil {
			h.copy.lease = false
		}
		if h.boot++; !w.oneIn(6, n+" stays away") {
			w.join(h)
		}
	}
	w.check("the disaster")
	var seen []Sighting
	for _, n := range siteHosts {
		h := w.hosts[n]
		x := Sighting{Node: n, Domain: "g1", Running: h.copy != nil, Marked: h.copy != nil && h.copy.marked, Note: h.note}
		if x.Note.UUID = "u"; h.joined && (x.Running || h.note.Generation > 0) {
			seen = append(seen, x)
		}
	}
	before := uint64(0)
	if w.highest < Era { // of the first cluster; of later ones the hosts know
		before = w.highest
	}
	for _, x := range seen {
		before = max(before, x.Note.Generation)
	}
	c, _ := Recall(pick(w, w.saved...), w.s, seen)
	if !w.apply(c) {
		w.fail("refused: %+v", c.Reinstate)
	}
	p, back := w.s.Protections["g1"]
	if back && p.Generation <= before || w.s.Retired < before {
		w.fail("generation %d follows on %d", p.Generation, before)
	}
	return back
}

// TestRecallOfAnyAge holds I2 and I3 over restores of states of any age, and more: what went
// on elsewhere from a replica never comes back as it was before that.
func TestRecallOfAnyAge(t *testing.T) {
	back, held, left := 0, 0, 0
	for seed := range uint64(4000) {
		w := newSite(t, seed)
		w.saved = []State{w.s}
		for range 1 + w.random.IntN(3) {
			for range 5 + w.random.IntN(80) {
				w.check(w.step())
			}
			owner := w.owner()
			switch silent := owner != nil && owner.copy.held; {
			case !w.disaster():
				left++
			case silent:
				held++
			default:
				back++
			}
			w.check("the restore")
		}
		for range 20 {
			w.check(w.step())
		}
	}
	t.Logf("%d guests that spoke came back, %d that were held, and %d stayed as they were", back, held, left)
	if min(back, held, left) < 100 {
		t.Error("hardly anything happens here")
	}
}
