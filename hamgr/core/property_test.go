package core

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var kinds = []Kind{Protect, Unprotect, Assign, Synced, GoSolo, FailOver, Restored, MarkLost, Restart, RegisterNode, WantMode, SetMode, Move, Stay, Degraded, AsOrdered, Drain, Undrain, Together, Apart, ProbeFailed, ProbePassed}

func drawCommand(t *rapid.T, s State, tick int) Command {
	nodes := []string{"h1", "h2", "h3", "h4", ""}
	c := Command{
		Kind:   rapid.SampledFrom(kinds).Draw(t, "kind"),
		Domain: rapid.SampledFrom([]string{"g1", "g2", "g3"}).Draw(t, "domain"),
		Backup: rapid.SampledFrom(nodes).Draw(t, "backup"),
		Cause:  "because",
		Time:   time.Unix(int64(tick), 0),

		Mode:     rapid.SampledFrom([]Mode{Buffer, Checkpoint}).Draw(t, "mode"),
		Silenced: rapid.Bool().Draw(t, "silenced"),
		Planned:  rapid.Bool().Draw(t, "planned"),
		Stopped:  rapid.Bool().Draw(t, "stopped"),
	}
	// Mostly the current generation or the one before, else nothing would ever move.
	c.Generation = s.Protections[c.Domain].Generation - uint64(rapid.SampledFrom([]int{0, 0, 0, 1, -1}).Draw(t, "behind"))
	switch c.Kind {
	case Protect:
		c.Protection = &Protection{Domain: c.Domain, UUID: "u" + c.Domain, Backup: c.Backup,
			Primary: rapid.SampledFrom(nodes).Draw(t, "primary"), Pinned: rapid.SampledFrom([]string{"", "", "h3"}).Draw(t, "pinned"),
			OnLoss: rapid.SampledFrom([]LossPolicy{"", OnLossRestart}).Draw(t, "policy")}
		c.Definition = "<domain/>"
	case Drain, Undrain:
		c.Node = &Node{Name: rapid.SampledFrom([]string{"h1", "h2", "h9"}).Draw(t, "drained")}
	case RegisterNode:
		n := rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "node")
		c.Generation = uint64(rapid.IntRange(0, 20).Draw(t, "noted"))
		c.Node = &Node{Name: n, ID: "id-" + n, Addr: n + rapid.SampledFrom([]string{"", "x"}).Draw(t, "addr"),
			Boot: rapid.SampledFrom([]string{"1", "1", "1", "2"}).Draw(t, "boot")}
	}
	return c
}

// history is the dumb oracle beside Apply: it only counts.
type history struct {
	highest map[string]uint64 // generation ever seen, by domain
	winners map[string]int    // accepted commands that raised domain/generation
}

func (h *history) check(t *rapid.T, before, after State, c Command) {
	old, had := before.Protections[c.Domain]
	now, has := after.Protections[c.Domain]
	if has && now.Generation < h.highest[c.Domain] {
		t.Fatalf("%s of %s: generation went from %d back to %d", c.Kind, c.Domain, h.highest[c.Domain], now.Generation)
	}
	if e := after.Ended[c.Domain]; had && !has && (e.Primary != old.Primary || e.Generation != old.Generation || e.UUID != old.UUID) {
		t.Fatalf("%s ended as %+v and is remembered as %+v", c.Domain, old, e)
	}
	if c.Kind == FailOver && before.Nodes[old.Backup].Boot != old.Boot {
		t.Fatalf("%s was given to %s, where hamgr was restarted: %+v", c.Domain, old.Backup, old)
	}
	if c.Kind == MarkLost && !c.Silenced && old.Phase == Protected && before.Nodes[old.Backup].Boot == old.Boot {
		t.Fatalf("%s was given up, and has a replica: %+v", c.Domain, old)
	}
	if c.Kind == FailOver && !c.Silenced && (old.Mode != Buffer || old.Wanted != "") {
		t.Fatalf("%s was taken over while it could emit: %+v", c.Domain, old)
	}
	if had && has && old.Primary != now.Primary {
		if after.Moved != after.Index {
			t.Fatalf("%s of %s: the owner changed, and hosts that have not heard of that get leases", c.Kind, c.Domain)
		}
		if c.Kind == Restart && !old.Silent && !(c.Silenced && old.Fenced) {
			t.Fatalf("%s was started on %s while it could emit on %s: %+v", c.Domain, now.Primary, old.Primary, old)
		}
	}
	if has && !had && now.Generation <= h.highest[c.Domain] {
		t.Fatalf("%s protected again with a used generation %d", c.Domain, now.Generation)
	}
	if has {
		h.highest[c.Domain] = now.Generation
	}
	if had && has && (old.Primary != now.Primary || old.Backup != now.Backup) && now.Generation == old.Generation {
		t.Fatalf("%s of %s moved without a new generation: %+v to %+v", c.Kind, c.Domain, old, now)
	}
	if had && (!has || now.Generation != old.Generation) {
		key := fmt.Sprintf("%s/%d", c.Domain, old.Generation)
		if h.winners[key]++; h.winners[key] > 1 {
			t.Fatalf("two commands won on %s", key)
		}
	}
}

func checkState(t *rapid.T, s State) {
	for name, p := range s.Protections {
		hasBackup := p.Phase == Syncing || p.Phase == Protected
		switch {
		case name != p.Domain:
			t.Fatalf("%q is kept under %q", p.Domain, name)
		case p.Primary == "" || p.Primary == p.Backup:
			t.Fatalf("%s: primary %q, backup %q", name, p.Primary, p.Backup)
		case hasBackup != (p.Backup != ""):
			t.Fatalf("%s is %s with backup %q", name, p.Phase, p.Backup)
		case p.Pinned != "" && p.Backup != "" && p.Backup != p.Pinned:
			t.Fatalf("%s is pinned to %s, its backup is %s", name, p.Pinned, p.Backup)
		case p.Wanted != "" && !hasBackup || p.Wanted == p.Mode:
			t.Fatalf("%s is %s in mode %q, to be %q", name, p.Phase, p.Mode, p.Wanted)
		case p.Moving && p.Phase != Protected:
			t.Fatalf("%s is %s and to move", name, p.Phase)
		case p.Generation == 0:
			t.Fatalf("%s has generation 0", name)
		}
	}
	if len(s.Events) > EventsKept {
		t.Fatalf("%d events kept", len(s.Events))
	}
}

func encode(t *rapid.T, s State) string {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGenerationsHaveOneWinner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s State
		h := &history{highest: map[string]uint64{}, winners: map[string]int{}}
		for i := range rapid.IntRange(1, 150).Draw(t, "length") {
			before, frozen := s, encode(t, s)
			c := drawCommand(t, s, i)
			err := Apply(&s, uint64(i+1), c)
			if encode(t, before) != frozen {
				t.Fatalf("%s wrote into a snapshot", c.Kind)
			}
			if err != nil {
				if !Refused(err) {
					t.Fatalf("%v is no refusal", err)
				}
				if before.Index = s.Index; encode(t, before) != encode(t, s) {
					t.Fatalf("%v, yet the state changed", err)
				}
			}
			if s.Index != uint64(i+1) {
				t.Fatalf("index %d after command %d", s.Index, i+1)
			}
			checkState(t, s)
			if err == nil {
				h.check(t, before, s, c)
			}
		}
	})
}

// TestDecisionsAreAccepted holds Decide against Apply: whatever the leader proposes on
// its own state is accepted, whoever is dead, and is never about a healthy primary.
func TestDecisionsAreAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s State
		for i := range rapid.IntRange(10, 80).Draw(t, "length") {
			_ = Apply(&s, uint64(i+1), drawCommand(t, s, i))
		}
		dead := map[string]bool{}
		for _, n := range []string{"h1", "h2", "h3"} {
			dead[n] = rapid.Bool().Draw(t, n+" dead")
		}
		lapsed := rapid.Bool().Draw(t, "lapsed")
		silence := time.Duration(rapid.SampledFrom([]int{0, 1, 20}).Draw(t, "silence")) * time.Second
		v := View{Now: time.Unix(1000, 0), Dead: func(n string) (bool, string) { return dead[n], "dead" },
			Silence: func(string) time.Duration { return silence },
			Lapsed:  func(n string) bool { return dead[n] && lapsed }}
		for n := range s.Nodes {
			if !dead[n] {
				v.Alive = append(v.Alive, n)
			}
		}
		for _, c := range Decide(s, v) {
			before := s.Protections[c.Domain]
			if err := Apply(&s, s.Index+1, c); err != nil {
				t.Fatalf("decided %+v, refused: %v", c, err)
			}
			after := s.Protections[c.Domain]
			if after.Primary != before.Primary && (!dead[before.Primary] || dead[after.Primary]) {
				t.Fatalf("moved %s from %s to %s, dead: %v", c.Domain, before.Primary, after.Primary, dead)
			}
			// What is only said of a guest may be said of one whose hosts are both dead.
			lost := after.Phase == Lost && before.Phase != Lost
			if lost && !dead[before.Primary] || after.Backup != before.Backup && dead[after.Backup] {
				t.Fatalf("decided %+v with dead %v", c, dead)
			}
			checkState(t, s)
		}
	})
}

func TestCloneSharesNothing(t *testing.T) {
	s := State{Nodes: map[string]Node{"h1": {}}, Events: []Event{{Index: 1}}, Ended: map[string]Ended{"g": {}},
		Protections: map[string]Protection{"g": {Refused: map[string]string{"h2": "x"}}}}
	c := s.Clone()
	c.Nodes["h2"], c.Events[0].Index, c.Ended["x"] = Node{}, 2, Ended{}
	c.Protections["g"].Refused["h2"] = "y"
	if len(s.Nodes) != 1 || len(s.Ended) != 1 || s.Events[0].Index != 1 || s.Protections["g"].Refused["h2"] != "x" {
		t.Fatalf("the original changed: %+v", s)
	}
}

// TestTheOldestEndIsForgotten, and no other.
func TestTheOldestEndIsForgotten(t *testing.T) {
	s := State{Nodes: map[string]Node{"h1": {}}}
	domain := func(i int) string { return fmt.Sprintf("g%d", i) }
	for i := range EndedKept + 2 {
		p := Protection{Domain: domain(i), UUID: domain(i), Primary: "h1"}
		for _, c := range []Command{{Kind: Protect, Protection: &p}, {Kind: Unprotect, Domain: p.Domain}} {
			if err := Apply(&s, s.Index+1, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, ok := s.Ended[domain(1)]; ok || len(s.Ended) != EndedKept || s.Ended[domain(2)].Primary != "h1" {
		t.Fatalf("%d are remembered", len(s.Ended))
	}
}
