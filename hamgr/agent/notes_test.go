package agent

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hamgr/hamgr/hamgr/core"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// TestNotes: the newest of each guest outlives the agent, until its protection has ended.
func TestNotes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run") // made when it is needed
	n := openNotes(dir, quiet())
	o := core.Protection{Domain: "g1", UUID: "u", Primary: "h1", Backup: "h2", Generation: 3}
	for _, p := range []core.Protection{{Domain: "g1", UUID: "u", Primary: "h1", Generation: 2}, o, {Domain: "g2", UUID: "v", Primary: "h1", Generation: 1}} {
		if err := n.primary(p); err != nil {
			t.Fatal(err)
		}
	}
	n = openNotes(dir, quiet())
	if got := n.list(); len(got) != 2 || got["g1"] != (core.Note{UUID: "u", Generation: 3, Primary: "h1", Backup: "h2"}) {
		t.Fatalf("%+v", got)
	}
	n.forget(core.State{Protections: map[string]core.Protection{"g1": o}, Ended: map[string]core.Ended{"g1": {}, "g2": {}}})
	n.forget(core.State{}) // of a cluster that has lost its state
	if got := openNotes(dir, quiet()).list(); len(got) != 1 || got["g1"].Generation != 3 {
		t.Fatalf("%+v", got)
	}
	n.alone(o)
	o.Generation = 2 // a job that is late
	if err := n.primary(o); err != nil {
		t.Fatal(err)
	}
	if got := openNotes(dir, quiet()).list()["g1"]; got.Backup != "" || got.Generation != 3 || Noted(dir, quiet()) != 3 {
		t.Fatalf("%+v", got)
	}
}

// TestNotesThatFail: what cannot be noted is not claimed, before or after a restart.
func TestNotesThatFail(t *testing.T) {
	dir := t.TempDir()
	n := openNotes(dir, quiet())
	o := core.Protection{Domain: "g1", UUID: "u", Primary: "h1", Backup: "h2", Generation: 3}
	if err := n.primary(o); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(n.path+".new/full", 0o755); err != nil { // in the way
		t.Fatal(err)
	}
	o.Generation = 4
	if n.primary(o) == nil || n.list()["g1"].Generation != 3 {
		t.Fatalf("%+v", n.list())
	}
	n.alone(o)
	if got := openNotes(dir, quiet()).list(); len(n.list()) != 0 || len(got) != 0 {
		t.Fatalf("%+v, %+v", n.list(), got)
	}
	if err := os.WriteFile(n.path, []byte(`{"g1":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := openNotes(dir, quiet()).list(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
}
