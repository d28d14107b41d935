package core

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// sees makes a sighting of g1: who says it, whether a copy runs there and can speak, and its note.
func sees(node, copy string, generation uint64, primary, backup string) Sighting {
	return Sighting{Node: node, Domain: "g1", Running: copy != "", Marked: copy == "held",
		Note: Note{UUID: "u", Generation: generation, Primary: primary, Backup: backup}}
}

func savedState() State {
	return State{Index: 40, Retired: 3, Nodes: map[string]Node{"h1": {Name: "h1"}, "h2": {Name: "h2"}, "h3": {Name: "h3"}},
		Protections: map[string]Protection{"g1": {Domain: "g1", UUID: "u", Primary: "h1", Backup: "h2", Pinned: "h2", Mode: Buffer,
			Epoch: DefaultEpoch, Memory: 5, Phase: Protected, Generation: 7, Fenced: true, OnLoss: OnLossRestart}},
		Definitions: map[string]string{"g1": "<domain/>"}}
}

func TestRecall(t *testing.T) {
	for name, c := range map[string]struct {
		seen []Sighting
		at   string // or
		why  string
	}{
		"nobody has it":                      {nil, "", "runs on no host"},
		"its end is known":                   {[]Sighting{sees("h1", "", 7, "h1", "h2")}, "", "runs on no host"},
		"another of that name":               {[]Sighting{{Node: "h1", Domain: "g1", Running: true, Note: Note{UUID: "v"}}}, "", "runs on no host"},
		"it speaks":                          {[]Sighting{sees("h3", "speaks", 0, "", "")}, "h3", ""},
		"it speaks, and was elsewhere":       {[]Sighting{sees("h3", "speaks", 0, "", ""), sees("h2", "", 9, "h2", "")}, "h3", ""},
		"held, and the backup says so":       {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h2", "", 7, "h1", "h2")}, "h1", ""},
		"held, and the backup is silent":     {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h3", "", 0, "", "")}, "", "h2, its backup, cannot say"},
		"held, the backup knows the last":    {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h2", "", 5, "h1", "h2")}, "", "h2, its backup, cannot say"},
		"held, and the backup had it":        {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h2", "", 8, "h2", "")}, "", "h2 was given it after h1"},
		"held, the backup took it over":      {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h2", "held", 8, "h2", "")}, "h2", ""},
		"it went on from there":              {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h2", "held", 10, "h2", "h3"), sees("h3", "", 10, "h2", "h3")}, "h2", ""},
		"and further":                        {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h3", "", 11, "h3", "")}, "", "h3 was given it after h1"},
		"alone by the cluster's word":        {[]Sighting{sees("h1", "held", 8, "h1", "")}, "h1", ""},
		"held by who knows whom":             {[]Sighting{sees("h1", "held", 0, "", "")}, "", "not known to be the guest"},
		"a copy at the backup of all places": {[]Sighting{sees("h1", "held", 7, "h1", "h2"), sees("h2", "held", 7, "h1", "h2")}, "", "runs on h1 and h2"},
		"two speak":                          {[]Sighting{sees("h1", "speaks", 8, "h1", ""), sees("h2", "speaks", 0, "", "")}, "", "runs on h1 and h2"},
		"one speaks beside a later one":      {[]Sighting{sees("h1", "speaks", 0, "", ""), sees("h2", "held", 8, "h2", "")}, "", "runs on h1 and h2"},
	} {
		t.Run(name, func(t *testing.T) {
			now := State{Index: 3, Retired: 1, Nodes: savedState().Nodes}
			cmd, left := Recall(savedState(), now, c.seen)
			if !strings.Contains(left["g1"], c.why) || (left["g1"] == "") != (c.at != "") {
				t.Fatalf("left: %v", left)
			}
			cmd.Time = time.Unix(9, 0)
			if err := Apply(&now, 4, cmd); err != nil {
				t.Fatal(err)
			}
			p, back := now.Protections["g1"]
			if back != (c.at != "") || now.Retired != Era || now.Reinstated != 4 || now.Moved != 4 {
				t.Fatalf("%+v", now)
			}
			if back && (p.Primary != c.at || p.Phase != Solo || p.Generation != Era || p.Fenced || p.Backup != "" || p.Memory != 5 ||
				p.Pinned == c.at || now.Definitions["g1"] == "" || !p.Since.Equal(cmd.Time)) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestNumbersDoNotGoBack, whoever has the highest.
func TestNumbersDoNotGoBack(t *testing.T) {
	for name, c := range map[string]struct {
		saved, now State
		seen       []Sighting
	}{
		"the saved state":        {State{Protections: map[string]Protection{"g1": {Domain: "g1", Generation: Era}}}, State{}, nil},
		"what had ended in it":   {State{Retired: Era}, State{}, nil},
		"what has ended since":   {State{}, State{Retired: Era}, nil},
		"a host, of whichever":   {State{}, State{}, []Sighting{{Domain: "g9", Note: Note{Generation: Era}}}},
		"a host with much to do": {State{}, State{}, []Sighting{{Domain: "g9", Note: Note{Generation: 2*Era - 1}}}},
	} {
		if cmd, _ := Recall(c.saved, c.now, c.seen); cmd.Reinstate.Generation != 2*Era {
			t.Errorf("%s: %d", name, cmd.Reinstate.Generation)
		}
	}
}

// TestReinstateIsRefused, and changes nothing then.
func TestReinstateIsRefused(t *testing.T) {
	protected := State{Nodes: savedState().Nodes, Protections: map[string]Protection{"g9": {Domain: "g9"}}}
	good, _ := Recall(savedState(), State{}, []Sighting{sees("h1", "speaks", 0, "", "")})
	for name, c := range map[string]struct {
		state  State
		change func(*Command)
		want   error
	}{
		"a cluster that protects":      {protected, func(*Command) {}, ErrAlreadyProtected},
		"a protection meanwhile":       {State{Nodes: savedState().Nodes, Retired: 2}, func(*Command) {}, ErrStaleGeneration},
		"a host that is not there":     {State{}, func(*Command) {}, ErrUnknownNode},
		"nothing":                      {State{}, func(c *Command) { c.Reinstate = nil }, ErrBadCommand},
		"a generation that is in use":  {State{Retired: Era}, func(c *Command) { c.Generation = Era }, ErrBadCommand},
		"no definition":                {State{Nodes: savedState().Nodes}, func(c *Command) { c.Reinstate.Definitions = nil }, ErrBadCommand},
		"one guest twice":              {State{Nodes: savedState().Nodes}, func(c *Command) { r := c.Reinstate; r.Protections = append(r.Protections, r.Protections[0]) }, ErrAlreadyProtected},
		"an order that makes no sense": {State{Nodes: savedState().Nodes}, func(c *Command) { c.Reinstate.Protections[0].Mode = "x" }, ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := good
			r := *good.Reinstate
			r.Protections = append([]Protection(nil), r.Protections...)
			cmd.Reinstate = &r
			c.change(&cmd)
			before := c.state
			if err := Apply(&c.state, 1, cmd); !errors.Is(err, c.want) || !Refused(err) {
				t.Errorf("%v", err)
			}
			if len(c.state.Protections) != len(before.Protections) || c.state.Retired != before.Retired || len(c.state.Events) > 0 {
				t.Errorf("%+v", c.state)
			}
		})
	}
}
