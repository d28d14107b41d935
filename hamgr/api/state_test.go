package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/saved"
)

// savedOf is what a node answers, with web1 protected by h1 and h2.
func savedOf(t *testing.T, node string) json.RawMessage {
	t.Helper()
	w := newWorld(t, "h2", "h1", "h2", "h3")
	protected(t, w)
	var file json.RawMessage
	if err := w.client(node).Do(t.Context(), http.MethodGet, "/v1/state", nil, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

// restores asks a follower of a new cluster of so many nodes.
func restores(t *testing.T, w *world, q RestoreRequest) (r RestoreResult, err error) {
	t.Helper()
	return r, post(t, w.client("h1"), "/v1/state/restore", q, &r)
}

// held has web1 wait on h1 for a backup that knows of nothing later.
func held(w *world) {
	n := core.Note{UUID: "u", Generation: 1, Primary: "h1", Backup: "h2"}
	w.nodes["h1"].agent.seen = []core.Sighting{{Node: "h1", Domain: "web1", Running: true, Marked: true, Note: n}}
	w.nodes["h2"].agent.seen = []core.Sighting{{Node: "h2", Domain: "web1", Note: n}}
}

func TestSavedStateIsRestored(t *testing.T) {
	file := savedOf(t, "h1")
	s, err := saved.Decode(file)
	if err != nil || s.Cluster != "hamgr" || s.State.Protections["web1"].Primary != "h1" || s.Index != s.State.Index {
		t.Fatalf("%+v, %v", s, err)
	}
	w := newWorld(t, "h2", "h1", "h2", "h3")
	held(w)
	r, err := restores(t, w, RestoreRequest{File: file})
	if err != nil || len(r.Left) > 0 || len(r.Restored) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if p := r.Restored[0]; p.Phase != core.Solo || p.Generation != core.Era || p.Primary != "h1" || !strings.Contains(p.Reason, "was restored") {
		t.Errorf("%+v", p)
	}
	_, err = restores(t, w, RestoreRequest{File: file})
	wantError(t, err, CodeConflict, 4, "this cluster protects web1 already", "hamgr protect those that are missing")
}

// TestRestoreLeavesWhatIsNotCertain, and says why.
func TestRestoreLeavesWhatIsNotCertain(t *testing.T) {
	w := newWorld(t, "h2", "h1", "h2", "h3")
	held(w)
	w.nodes["h2"].agent.seen = nil
	r, err := restores(t, w, RestoreRequest{File: savedOf(t, "h2")})
	if err != nil || len(r.Restored) > 0 || len(r.Left) != 1 || !strings.Contains(r.Left[0].Why, "h2, its backup, cannot say") {
		t.Fatalf("%+v, %v", r, err)
	}
	if w.agreed.Retired < core.Era || len(w.agreed.Protections) > 0 {
		t.Errorf("%+v", w.agreed)
	}
}

// TestRestoreWaitsForTheDying: the standby of a hamgr that has just ended is no second copy.
func TestRestoreWaitsForTheDying(t *testing.T) {
	w := newWorld(t, "h2", "h1", "h2", "h3")
	held(w)
	standby := w.nodes["h2"].agent
	standby.before = []core.Sighting{{Node: "h2", Domain: "web1", Running: true, Note: standby.seen[0].Note}}
	r, err := restores(t, w, RestoreRequest{File: savedOf(t, "h2")})
	if err != nil || len(r.Left) > 0 || len(r.Restored) != 1 || r.Restored[0].Primary != "h1" {
		t.Fatalf("%+v, %v", r, err)
	}
}

// TestRestoreIsRefused, and leaves the cluster as it was.
func TestRestoreIsRefused(t *testing.T) {
	file := savedOf(t, "h2")
	other, err := saved.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	other.Cluster = "elsewhere"
	foreign, err := saved.Encode(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		nodes   []string
		q       RestoreRequest
		prepare func(*world)
		code    string
		exit    int
		words   []string
	}{
		"a file of nothing":      {[]string{"h1", "h2", "h3"}, RestoreRequest{}, nil, CodeRefused, 1, []string{"not a saved state", "another file"}},
		"a file that is changed": {[]string{"h1", "h2", "h3"}, RestoreRequest{File: bytes.Replace(file, []byte(`"primary":"h1"`), []byte(`"primary":"h2"`), 1)}, nil, CodeRefused, 1, []string{"not as it was saved"}},
		"a newer file":           {[]string{"h1", "h2", "h3"}, RestoreRequest{File: bytes.Replace(file, []byte(`"hamgr_state":1`), []byte(`"hamgr_state":2`), 1)}, nil, CodeRefused, 1, []string{"newer version", "or a newer one"}},
		"another cluster's":      {[]string{"h1", "h2", "h3"}, RestoreRequest{File: foreign}, nil, CodeRefused, 1, []string{`"elsewhere"`, `"hamgr"`}},
		"a node is missing":      {[]string{"h1", "h2"}, RestoreRequest{File: file}, nil, CodeConflict, 4, []string{"not registered", "h3", "--without"}},
		"a node without a name":  {[]string{"h1", "h2", "h3"}, RestoreRequest{File: file, Without: []string{"h9"}}, nil, CodeNotFound, 3, []string{"--without h9"}},
		"a node that cannot say": {[]string{"h1", "h2", "h3"}, RestoreRequest{File: file}, func(w *world) { w.nodes["h3"].agent.broken = errors.New("libvirt hangs") },
			CodeFailed, 1, []string{"h3: libvirt hangs"}},
		"no majority": {[]string{"h1", "h2", "h3"}, RestoreRequest{File: file}, func(w *world) { w.set(func() { w.quorum = errors.New("nobody answers") }) },
			CodeUnreachable, 5, []string{"nobody answers"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "h2", c.nodes...)
			held(w)
			w.nodes["h1"].server.leaderWait = 50 * time.Millisecond
			if c.prepare != nil {
				c.prepare(w)
			}
			_, err := restores(t, w, c.q)
			wantError(t, err, c.code, c.exit, c.words...)
			if w.agreed.Reinstated != 0 || w.agreed.Retired != 0 {
				t.Errorf("%+v", w.agreed)
			}
		})
	}
}

// TestRestoreWithout: by the operator's word a node need not be there.
func TestRestoreWithout(t *testing.T) {
	file := savedOf(t, "h2")
	w := newWorld(t, "h2", "h1", "h2")
	held(w)
	if r, err := restores(t, w, RestoreRequest{File: file, Without: []string{"h3"}}); err != nil || len(r.Restored) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestLargeState is larger than other requests may be.
func TestLargeState(t *testing.T) {
	s, err := saved.Decode(savedOf(t, "h2"))
	if err != nil {
		t.Fatal(err)
	}
	s.State.Definitions = map[string]string{"big": strings.Repeat("x", 4<<20)}
	file, err := saved.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "h2", "h1", "h2", "h3")
	held(w)
	if r, err := restores(t, w, RestoreRequest{File: file}); err != nil || len(r.Restored) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
