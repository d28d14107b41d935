package api

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
)

// managed is a cluster of five nodes, the first three of them managers, h1 the leader.
func managed(t *testing.T) *world {
	w := newWorld(t, "h1", "h1", "h2", "h3", "h4", "h5")
	w.manage("h1", "h2", "h3")
	return w
}

func namesOf(m Managers) string {
	var names []string
	for _, n := range m.Managers {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func TestManagers(t *testing.T) {
	w := managed(t)
	m, err := w.client("h5").Managers(t.Context())
	if err != nil || namesOf(m) != "h1 h2 h3" || m.Majority != 2 || m.Warning != "" || !m.Managers[0].Leader || !m.Managers[0].Manager {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err = w.client("h5").AddManager(t.Context(), "h4"); err != nil || namesOf(m) != "h1 h2 h3 h4" || !strings.Contains(m.Warning, "4 managers survive no more failures than 3") {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err = w.client("h5").RemoveManager(t.Context(), "h2"); err != nil || namesOf(m) != "h1 h3 h4" || m.Warning != "" {
		t.Fatalf("%+v, %v", m, err)
	}
	nodes, err := w.client("h2").Nodes(t.Context())
	if err != nil || nodes[1].Manager || !nodes[3].Manager {
		t.Fatalf("%+v, %v", nodes, err)
	}
	w.set(func() { w.live["h3"] = silent })
	if m, err = w.client("h1").Managers(t.Context()); err != nil || !strings.Contains(m.Warning, "2 of 3 managers are alive, and 2 must be") {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestLeaderIsRemoved: it hands over first, to one that lives, whoever was asked.
func TestLeaderIsRemoved(t *testing.T) {
	for _, asked := range []string{"h1", "h3", "h5"} {
		w := managed(t)
		w.manage("h1", "h2", "h3", "h4")
		w.set(func() { w.live["h2"] = silent })
		m, err := w.client(asked).RemoveManager(t.Context(), "h1")
		if err != nil || namesOf(m) != "h2 h3 h4" || w.leader != "h3" {
			t.Errorf("asked %s: %+v, %v; %s leads", asked, m, err, w.leader)
		}
	}
}

func TestManagersThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		before func(w *world)
		remove bool
		node   string
		code   string
		exit   int
		words  []string
	}{
		"add an unknown one":            {node: "h9", code: CodeNotFound, exit: 3, words: []string{`no node "h9"`}},
		"add a dead one":                {before: func(w *world) { w.live["h4"] = silent }, node: "h4", code: CodeConflict, exit: 4, words: []string{"h4 is silent"}},
		"add one that is one":           {node: "h2", code: CodeConflict, exit: 4, words: []string{"h2 is a manager already"}},
		"add one while two are dead":    {before: func(w *world) { w.live["h2"], w.live["h3"] = silent, silent }, node: "h4", code: CodeConflict, exit: 4, words: []string{"there are 4 managers, of whom 3 must be alive, and 2 are: h2 is silent, h3 is silent"}},
		"remove an unknown one":         {remove: true, node: "h9", code: CodeNotFound, exit: 3, words: []string{`no node "h9"`}},
		"remove one that is none":       {remove: true, node: "h4", code: CodeConflict, exit: 4, words: []string{"h4 is not a manager"}},
		"remove one, another is dead":   {before: func(w *world) { w.live["h3"] = silent }, remove: true, node: "h2", code: CodeConflict, exit: 4, words: []string{"without h2 there are 2 managers, of whom 2 must be alive, and 1 are: h3 is silent"}},
		"remove the leader, like that":  {before: func(w *world) { w.live["h3"] = silent }, remove: true, node: "h1", code: CodeConflict, exit: 4, words: []string{"without h1"}},
		"a change that was not decided": {before: func(w *world) { w.quorum = errors.New("cut off") }, node: "h4", code: CodeUnknown, exit: 5, words: []string{"cut off"}},
		"two at once":                   {before: func(w *world) { w.quorum = cluster.ErrChanging }, node: "h4", code: CodeConflict, exit: 4, words: []string{"another change", "by one at a time"}},
	} {
		w := managed(t)
		if c.before != nil {
			w.set(func() { c.before(w) })
		}
		do := (*Client).AddManager
		if c.remove {
			do = (*Client).RemoveManager
		}
		_, err := do(w.client("h5"), t.Context(), c.node)
		t.Log(name)
		wantError(t, err, c.code, c.exit, c.words...)
		if got := w.agreed.Voters(); len(got) != 3 {
			t.Errorf("managers now: %v", got)
		}
	}
	w := managed(t)
	w.manage("h1")
	_, err := w.client("h2").RemoveManager(t.Context(), "h1")
	wantError(t, err, CodeConflict, 4, "h1 is the only manager")
	w.manage("h1", "h2")
	w.set(func() { w.live["h2"] = silent })
	if _, err := w.client("h1").RemoveManager(t.Context(), "h2"); err != nil {
		t.Errorf("the dead one of two, of whom the leader is left: %v", err)
	}
}

// TestManagerThatLags: it would have the others wait.
func TestManagerThatLags(t *testing.T) {
	w := managed(t)
	w.set(func() { w.lagging["h4"] = true })
	w.must(t, core.Command{Kind: core.Drain, Node: &core.Node{Name: "h5"}})
	done := make(chan error, 1)
	go func() { _, err := w.client("h1").AddManager(t.Context(), "h4"); done <- err }()
	select {
	case err := <-done:
		t.Fatalf("it lags, and: %v", err)
	case <-time.After(5 * leaderPoll):
	}
	w.set(func() { w.lagging["h4"] = false })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestBlank(t *testing.T) {
	w := managed(t)
	if err := w.client("h4").Blank(t.Context(), core.Node{Name: "h2", ID: "h2", Addr: "10.0.0.2"}); err != nil || len(w.agreed.Managers) != 2 {
		t.Fatalf("%v, managers %v", err, w.agreed.Managers)
	}
	wantError(t, w.client("h4").Blank(t.Context(), core.Node{Name: "h2"}), CodeBadRequest, 2, "a node with name, id and address")
	if st, err := w.client("h3").Standing(t.Context()); err != nil || st.Applied != w.agreed.Index {
		t.Fatalf("%+v, %v", st, err)
	}
}
