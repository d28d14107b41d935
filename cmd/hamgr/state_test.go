package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/saved"
)

func stateFile(t *testing.T) []byte {
	t.Helper()
	data, err := saved.Encode(saved.State{Cluster: "hamgr", Index: 7, State: core.State{Index: 7,
		Protections: map[string]core.Protection{"web1": {Domain: "web1", UUID: "u", Primary: "h1", Generation: 2}}}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestStateSave(t *testing.T) {
	n := newNode(t)
	n.answers["GET /v1/state"] = []any{json.RawMessage(stateFile(t))}
	path := filepath.Join(t.TempDir(), "state.json")
	n.want(t, 0, path+" has the state of hamgr at index 7, with 1 protections\n", "", "state", "save", path)
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st, err)
	}
	if data, _ := os.ReadFile(path); !bytes.Equal(data, stateFile(t)) {
		t.Errorf("%s", data)
	}
	n.want(t, 0, `"protections": 1`, "", "state", "save", path, "-o", "json")
	if code, out, _ := n.hamgr(t, "state", "save", "-"); code != 0 || out != string(stateFile(t)) {
		t.Errorf("%d, %s", code, out)
	}
	n.want(t, 1, "", "not a directory", "state", "save", filepath.Join(path, "x"))
	n.answers["GET /v1/state"] = []any{map[string]any{}}
	n.want(t, 1, "", "the answer is not a saved state", "state", "save", path)
	if data, _ := os.ReadFile(path); !bytes.Equal(data, stateFile(t)) {
		t.Errorf("a failure has changed the file: %s", data)
	}
	n.answers["GET /v1/state"] = []any{api.Failure(api.CodeUnreachable, "wait", "nobody leads")}
	n.want(t, 5, "", "nobody leads\n  wait\n", "state", "save", path)
	n.want(t, 2, "", "accepts 1 arg", "state", "save")
}

func TestStateRestore(t *testing.T) {
	n := newNode(t)
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(path, stateFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	all := api.RestoreResult{Restored: []core.Protection{{Domain: "web1", Primary: "h1"}}}
	some := all
	some.Left = []api.LeftGuest{{Domain: "web2", Why: "it runs on no host"}}
	n.answers["POST /v1/state/restore"] = []any{all, some}
	n.want(t, 0, "web1 is on h1, and gets a backup next\n", "", "state", "restore", path, "--without", "h3,h4")
	if asked := n.asked[0]; !strings.Contains(asked, `"hamgr_state":1`) || !strings.HasSuffix(asked, `"without":["h3","h4"]}`) {
		t.Errorf("asked %s", asked)
	}
	n.want(t, 1, "web2 is not restored: it runs on no host\n", "1 of 2 guests were not restored: web2\n  see to the copies", "state", "restore", path)
	n.answers["POST /v1/state/restore"] = []any{api.Failure(api.CodeConflict, "", "this cluster protects web1 already")}
	n.want(t, 4, "", "protects web1 already", "state", "restore", path)

	before := len(n.asked)
	for wrong, data := range map[string][]byte{
		"is not a saved state, or cut short": stateFile(t)[:90],
		"is not as it was saved":             bytes.Replace(stateFile(t), []byte(`"h1"`), []byte(`"h2"`), 1),
		"is of a newer version: 9":           bytes.Replace(stateFile(t), []byte(`state": 1`), []byte(`state": 9`), 1),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		n.want(t, 1, "", path+" "+wrong, "state", "restore", path)
	}
	n.want(t, 1, "", "no such file", "state", "restore", path+".none")
	n.want(t, 2, "", "accepts 1 arg", "state", "restore")
	if len(n.asked) > before {
		t.Errorf("asked with a wrong file: %v", n.asked[before:])
	}
}

// TestStateSaveOfAStoppedNode needs nobody that answers.
func TestStateSaveOfAStoppedNode(t *testing.T) {
	dir := t.TempDir()
	file, conf := filepath.Join(dir, "state.json"), filepath.Join(dir, "hamgr.yaml")
	if err := os.WriteFile(conf, []byte("cluster: east\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"state", "save", file, "--data", dir, "--config", conf, "--socket", "/nowhere"}
	save := func() (int, string) {
		var out, errOut bytes.Buffer
		code := run(t.Context(), args, &out, &errOut)
		return code, out.String() + errOut.String()
	}
	if code, text := save(); code != 1 || !strings.Contains(text, "no state") {
		t.Fatalf("%d: %s", code, text)
	}
	c, err := cluster.Open(cluster.Config{Node: "h1", ID: "i", Addr: "127.0.21.1", Managers: map[string]string{"h1": "127.0.21.1"}, Dir: filepath.Join(dir, "raft"), Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Register(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if code, text := save(); code != 1 || !strings.Contains(text, "is hamgr running") {
		t.Fatalf("%d: %s", code, text)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if code, text := save(); code != 0 || !strings.Contains(text, "has the state of east at index") {
		t.Fatalf("%d: %s", code, text)
	}
	data, _ := os.ReadFile(file)
	if s, err := saved.Decode(data); err != nil || s.State.Nodes["h1"].Addr != "127.0.21.1" {
		t.Errorf("%+v, %v", s, err)
	}
}
