package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
)

// did is a fault of the catalogue, done at a time.
func did(t *testing.T, name, host string, from, until int) done {
	t.Helper()
	all, err := catalogue()
	if err != nil {
		t.Fatal(err)
	}
	f, err := named(all, name)
	if err != nil {
		t.Fatal(err)
	}
	return done{step: step{Fault: name, fault: f}, Host: host, From: at(from), Until: at(until)}
}

func TestLossAllowed(t *testing.T) {
	stays := []standing{{at(-1000), "h1", "h2", core.Protected, 2}}
	moves := append(slices.Clone(stays), standing{at(200), "h2", "", core.Recovering, 3}, standing{at(300), "h2", "", core.Solo, 3},
		standing{at(900), "h2", "h3", core.Syncing, 4}, standing{at(1500), "h2", "h3", core.Protected, 4})
	solo := append(slices.Clone(stays), standing{at(200), "h1", "", core.Solo, 3})
	missed := did(t, "power-off", "h2", 300, 5000)
	missed.Missed = "no such host"
	for name, c := range map[string]struct {
		faults []done
		story  []standing
		want   bool
	}{
		"the primary alone":                     {[]done{did(t, "power-off", "h1", 0, 5000)}, moves, false},
		"both hosts":                            {[]done{did(t, "power-off", "h1", 0, 5000), did(t, "power-off", "h2", 100, 5000)}, stays, true},
		"both, the backup first":                {[]done{did(t, "hamgr-killed", "h2", 0, 0), did(t, "qemu-killed", "h1", 30, 30)}, stays, true},
		"the host it has just moved to":         {[]done{did(t, "power-off", "h1", 0, 5000), did(t, "power-off", "h2", 700, 5000)}, moves, true},
		"a host beside":                         {[]done{did(t, "power-off", "h1", 0, 5000), did(t, "power-off", "h3", 100, 5000)}, moves, false},
		"the primary, its backup's net before":  {[]done{did(t, "management-cut-both", "h2", 0, 500), did(t, "power-off", "h1", 600, 5000)}, solo, true},
		"neither had the guest":                 {[]done{did(t, "libvirtd-killed", "h1", 0, 0), did(t, "power-off", "h2", 100, 5000)}, solo, false},
		"the second could not be done":          {[]done{did(t, "power-off", "h1", 0, 5000), missed}, moves, false},
		"hamgr there, while it restores":        {[]done{did(t, "power-off", "h1", 0, 5000), did(t, "hamgr-killed", "h2", 250, 250)}, moves, true},
		"hamgr there, when it runs":             {[]done{did(t, "power-off", "h1", 0, 5000), did(t, "hamgr-killed", "h2", 700, 700)}, moves, false},
		"when it was protected again elsewhere": {[]done{did(t, "power-off", "h1", 0, 9000), did(t, "qemu-killed", "h2", 2500, 2500)}, moves, false},
	} {
		if got := lossAllowed(c.faults, c.story); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestLossIsToldApart: what is excused is reported, what is not is a violation, and a
// guest that is only slow is neither.
func TestLossIsToldApart(t *testing.T) {
	stays := []standing{{at(-1000), "h1", "h2", core.Protected, 2}}
	one, two := did(t, "power-off", "h1", 0, 5000), did(t, "power-off", "h2", 100, 5000)
	for _, c := range []struct {
		faults   []done
		why      error
		lost     bool
		count    int
		unserved bool
	}{
		{[]done{one, two}, errLost, true, 0, false},
		{[]done{one}, errLost, false, 1, false},
		{[]done{one, two}, errSlow, false, 0, true},
		{[]done{one}, nil, false, 0, false},
	} {
		v := verdict{Faults: c.faults, story: stays}
		v.excused(c.why)
		r := newReport(options{}, "container", 3)
		r.add(v)
		if v.Lost != c.lost || v.Count != c.count || (v.Unserved != "") != c.unserved || (r.err() != nil) != (c.count > 0 || c.unserved) {
			t.Errorf("%v: %+v; %v", c.why, v, r.err())
		}
	}
}

var errSlow = errorString("not protected within a minute")

type errorString string

func (e errorString) Error() string { return string(e) }

func TestStory(t *testing.T) {
	order := func(ms int, index uint64, phase core.Phase, node string) trace.Event {
		return trace.Event{Time: at(ms), Node: node, Kind: trace.Order, Index: index, Phase: string(phase), Primary: "h1"}
	}
	got := story([]trace.Event{
		order(30, 7, core.Protected, "h3"), order(20, 7, core.Protected, "h1"), order(10, 5, core.Syncing, "h1"),
		order(90, 5, core.Syncing, "h2"), {Time: at(40), Kind: trace.Boundary},
	})
	if len(got) != 2 || got[0].Phase != core.Syncing || !got[1].Time.Equal(at(20)) {
		t.Errorf("%+v", got)
	}
}

// TestFramesAreJudged: what a fault may cause is counted apart from what nothing excuses.
func TestFramesAreJudged(t *testing.T) {
	rep := commit.Report{Count: map[commit.Kind]int{commit.Late: 3, commit.NotOwner: 2}, Violations: []commit.Violation{
		{Kind: commit.Late, Host: "h1", Time: zero}, {Kind: commit.NotOwner, Host: "h1", Time: zero, Detail: "two of them"},
	}}
	v := verdict{}
	v.frames(rep)
	if v.Count != 2 || len(v.Violations) != 1 || !strings.Contains(v.Violations[0], string(commit.NotOwner)) || v.Incidental[commit.Late] != 3 {
		t.Errorf("%+v", v)
	}
	if !v.bad() {
		t.Error("two emitters, and it is well")
	}
}

func TestPercentiles(t *testing.T) {
	var values []float64
	for i := range 100 {
		values = append(values, float64(100-i))
	}
	if p := percentilesOf(values); p != (percentiles{100, 50, 90, 99, 100}) {
		t.Errorf("%+v", p)
	}
	if d := 90 * time.Millisecond; ms(d) != 90 {
		t.Error(ms(d))
	}
}
