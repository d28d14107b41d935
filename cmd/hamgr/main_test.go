package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/config"
	"github.com/hamgr/hamgr/hamgr/core"
)

// node answers "METHOD path" from a table and notes what it was asked. A list of answers
// is given out one by one, the last again and again.
type node struct {
	*httptest.Server
	mu      sync.Mutex // guards what follows
	answers map[string][]any
	asked   []string
}

func newNode(t *testing.T) *node {
	n := &node{answers: map[string][]any{}}
	n.Server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.Close)
	return n
}

func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	body.ReadFrom(r.Body)
	n.mu.Lock()
	defer n.mu.Unlock()
	key := r.Method + " " + r.URL.EscapedPath()
	n.asked = append(n.asked, strings.TrimSpace(key+" "+strings.TrimPrefix(body.String(), "null")))
	list := n.answers[key]
	if len(list) == 0 {
		list = []any{api.Failure(api.CodeNotFound, "", "no answer for %s", key)}
	}
	if len(list) > 1 {
		n.answers[key] = list[1:]
	}
	if e, failed := list[0].(*api.Error); failed {
		w.WriteHeader(http.StatusTeapot)
		json.NewEncoder(w).Encode(map[string]any{"error": e})
		return
	}
	json.NewEncoder(w).Encode(list[0])
}

func (n *node) count(request string) (c int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.asked {
		if strings.HasPrefix(a, request) {
			c++
		}
	}
	return c
}

// hamgr runs the command line against n.
func (n *node) hamgr(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append(args, "--url", n.URL), &o, &e)
	return code, o.String(), e.String()
}

func (n *node) want(t *testing.T, code int, out, errOut string, args ...string) {
	t.Helper()
	gotCode, gotOut, gotErr := n.hamgr(t, args...)
	if gotCode != code || !strings.Contains(gotOut, out) || !strings.Contains(gotErr, errOut) {
		t.Errorf("hamgr %v: exit %d\n%s%s\nwant %d, %q, %q", args, gotCode, gotOut, gotErr, code, out, errOut)
	}
}

func protection(phase core.Phase, generation uint64, change func(*api.ProtectionStatus)) api.Status {
	p := api.ProtectionStatus{Protection: core.Protection{Domain: "web1", Primary: "h1", Backup: "h2", Mode: core.Buffer, UUID: "u-1",
		Epoch: 25 * time.Millisecond, Generation: generation, Phase: phase, Since: time.Now(), Memory: 1 << 30}}
	if change != nil {
		change(&p)
	}
	return api.Status{Node: "h3", Leader: "h1", Protections: []api.ProtectionStatus{p}}
}

func TestUsage(t *testing.T) {
	n := newNode(t)
	n.want(t, 2, "", "unknown command", "dance")
	n.want(t, 2, "", "unknown flag: --fast\n  see hamgr --help", "protect", "x", "--fast")
	n.want(t, 2, "", "accepts 1 arg", "protect")
	n.want(t, 2, "", "unknown command", "node", "lisst")
	n.want(t, 2, "", "unknown output \"xml\"\n  use -o table", "status", "-o", "xml")
	n.want(t, 2, "", "an epoch of 500µs; give whole", "protect", "x", "--epoch", "500us")
	n.want(t, 2, "", "an epoch of 0s", "protect", "x", "--epoch", "0")
	n.want(t, 2, "", "a probe every 0s that waits for 0s and counts after 3", "protect", "x", "--probe", "tcp://x:1", "--probe-interval", "0")
	n.want(t, 2, "", "--probe-failures without --probe", "protect", "x", "--probe-failures", "2")
	n.want(t, 2, "", `"h1" is not name=address`, "serve", "--managers", "h1")
	n.want(t, 1, "", "none.yaml", "serve", "--config", filepath.Join(t.TempDir(), "none.yaml"))
	n.want(t, 0, "hamgr protect web1 --backup h2", "", "protect", "--help")
	n.want(t, 0, "bash completion", "", "completion", "bash")
	n.want(t, 0, "hamgr ", "", "version")
	n.want(t, 0, `"go": "go1`, "", "version", "-o", "json")
	if len(n.asked) > 0 {
		t.Error(n.asked)
	}
	for _, c := range (&app{}).root().Commands() {
		if c.Short == "" || c.Example == "" && !c.HasSubCommands() {
			t.Errorf("%s lacks a description or an example", c.Name())
		}
	}
}

// TestErrors: one line, a second with what to do, and the exit code.
func TestErrors(t *testing.T) {
	for code, exit := range map[string]int{api.CodeFailed: 1, api.CodeRefused: 1, api.CodeBadRequest: 2, api.CodeNotFound: 3, api.CodeConflict: 4,
		api.CodeUnreachable: 5, api.CodeUnknown: 5, "wrong-phase": 4, "from the future": 1} {
		n := newNode(t)
		n.answers["POST /v1/protections/web1/failover"] = []any{api.Failure(code, "do that", "it is so\nand so")}
		_, out, errOut := n.hamgr(t, "failover", "web1")
		n.want(t, exit, "", "", "failover", "web1")
		if out != "" || errOut != "hamgr: it is so; and so\n  do that\n" {
			t.Errorf("%s: %q, %q", code, out, errOut)
		}
	}
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"status", "--socket", filepath.Join(t.TempDir(), "s")}, &out, &errOut); code != 5 || !strings.Contains(errOut.String(), "does not answer") {
		t.Error(code, errOut.String())
	}
}

func TestProtect(t *testing.T) {
	n := newNode(t)
	syncing := protection(core.Syncing, 1, func(p *api.ProtectionStatus) { p.Stats = &api.Stats{SyncPercent: 60} })
	n.answers["POST /v1/protections"] = []any{protection(core.Syncing, 1, nil).Protections[0].Protection}
	n.answers["GET /v1/status"] = []any{protection(core.Syncing, 1, nil), syncing, syncing,
		api.Failure(api.CodeUnreachable, "", "a moment"), protection(core.Protected, 1, nil)}
	n.want(t, 0, "web1 is protected: h1 -> h2\n", "web1: copying memory from h1 to h2\nweb1: copying memory from h1 to h2, 60 %\n",
		"protect", "web1", "--backup", "h2", "--epoch", "10ms")
	if want := `POST /v1/protections {"domain":"web1","backup":"h2","epoch_ms":10,"mode":"buffer","on_loss":"stop"}`; n.asked[0] != want {
		t.Errorf("asked %s", n.asked[0])
	}
	n.want(t, 0, `"phase": "protected"`, "", "protect", "web1", "-o", "json")
	n.want(t, 0, "web1 is syncing", "", "protect", "web1", "--wait=false", "--input", "off")
	if got := n.asked[len(n.asked)-1]; got != `POST /v1/protections {"domain":"web1","mode":"buffer","input":false,"on_loss":"stop"}` {
		t.Errorf("asked %s", got)
	}
	n.want(t, 0, "web1 is syncing", "", "protect", "web1", "--wait=false", "--probe", "tcp://web1:80", "--probe-timeout", "3s")
	if got := n.asked[len(n.asked)-1]; !strings.Contains(got, `"probe":{"url":"tcp://web1:80","interval_ms":2000,"timeout_ms":3000,"failures":3}`) {
		t.Error(got)
	}
	n.want(t, 2, "", "--input perhaps; give on or off", "protect", "web1", "--input", "perhaps")
	n.want(t, 0, "web1 is syncing", "", "protect", "web1", "--wait=false")
	if got := n.asked[len(n.asked)-1]; got != `POST /v1/protections {"domain":"web1","mode":"buffer","on_loss":"stop"}` {
		t.Errorf("asked %s", got)
	}
}

// TestProtectFails: what the first copy ended with is told, and nothing stays behind.
func TestProtectFails(t *testing.T) {
	refused := func(p *api.ProtectionStatus) {
		p.Backup, p.Refused = "", map[string]string{"h2": "its tmpfs is full"}
	}
	for name, c := range map[string]struct {
		then    any
		message string
		undone  int
	}{
		"solo": {protection(core.Solo, 2, refused), "web1 could not be protected by h2: its tmpfs is full\n  it runs on as before", 1},
		"the next backup is tried already": {protection(core.Syncing, 3, func(p *api.ProtectionStatus) { refused(p); p.Backup = "h3" }),
			"web1 could not be protected by h2: its tmpfs is full", 1},
		"the host died": {protection(core.Lost, 2, func(p *api.ProtectionStatus) { p.Reason = "no heartbeat from h1" }),
			"web1 was lost before it was protected: no heartbeat from h1", 0},
		"the guest was shut down": {api.Status{}, "the protection of web1 has ended before its first checkpoint: the guest was shut down\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.answers["POST /v1/protections"] = []any{protection(core.Syncing, 1, nil).Protections[0].Protection}
			n.answers["GET /v1/status"] = []any{protection(core.Syncing, 1, nil), c.then}
			n.answers["GET /v1/events"] = []any{[]core.Event{{Kind: core.Unprotect, Domain: "web1", Cause: "the guest was shut down"}}}
			n.answers["DELETE /v1/protections/web1"] = []any{map[string]any{}}
			n.want(t, 1, "", c.message, "protect", "web1", "--backup", "h2")
			if got := n.count("DELETE /v1/protections/web1"); got != c.undone {
				t.Errorf("unprotected %d times, want %d", got, c.undone)
			}
		})
	}
}

// TestProtectGoesOn: without a pinned backup, one that fails is followed by the next.
func TestProtectGoesOn(t *testing.T) {
	full := func(p *api.ProtectionStatus) {
		p.Backup, p.Refused = "", map[string]string{"h2": "its tmpfs is full"}
	}
	next := func(p *api.ProtectionStatus) { full(p); p.Backup = "h3" }
	n := newNode(t)
	n.answers["POST /v1/protections"] = []any{protection(core.Syncing, 1, nil).Protections[0].Protection}
	n.answers["GET /v1/status"] = []any{protection(core.Syncing, 1, nil), protection(core.Solo, 2, full),
		protection(core.Syncing, 3, next), protection(core.Protected, 3, next)}
	n.want(t, 0, "web1 is protected: h1 -> h3\n", "web1: copying memory from h1 to h2\nweb1: given up with h2: its tmpfs is full\nweb1: copying memory from h1 to h3\n",
		"protect", "web1")
	if n.count("DELETE /v1/protections/web1") != 0 {
		t.Error("it was undone")
	}
}

func TestProtectTimesOut(t *testing.T) {
	n := newNode(t)
	n.answers["POST /v1/protections"] = []any{protection(core.Syncing, 1, nil).Protections[0].Protection}
	n.answers["GET /v1/status"] = []any{protection(core.Syncing, 1, nil)}
	n.want(t, 1, "", "web1 was not protected within 30ms\n  the copy goes on", "protect", "web1", "--timeout", "30ms")
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	var out, errOut bytes.Buffer
	if code := run(ctx, []string{"protect", "web1", "--url", n.URL}, &out, &errOut); code != 1 || !strings.Contains(errOut.String(), "hamgr: interrupted") {
		t.Error(code, errOut.String())
	}
	if n.count("DELETE") > 0 {
		t.Error("unprotected")
	}
}

func TestUnprotectAndFailover(t *testing.T) {
	n := newNode(t)
	n.answers["DELETE /v1/protections/a%2Fb"] = []any{map[string]any{}}
	n.answers["POST /v1/protections/web1/failover"] = []any{core.Protection{Domain: "web1", Primary: "h2", Generation: 2}}
	n.want(t, 0, "a/b is no longer protected\n", "", "unprotect", "a/b")
	n.want(t, 0, `"domain": "a/b"`, "", "unprotect", "a/b", "-o", "json")
	n.want(t, 0, "web1 runs on h2 (generation 2)\n", "", "failover", "web1", "--now")
}

func TestPlannedFailover(t *testing.T) {
	n := newNode(t)
	moving := protection(core.Protected, 1, func(p *api.ProtectionStatus) { p.Moving = true })
	there := protection(core.Solo, 2, func(p *api.ProtectionStatus) { p.Primary, p.Backup = "h2", "" })
	n.answers["POST /v1/protections/web1/failover"] = []any{moving.Protections[0].Protection}
	n.answers["GET /v1/status"] = []any{moving, there}
	n.want(t, 0, "web1 runs on h2 (generation 2)\n", "", "failover", "web1")
	n.answers["GET /v1/status"] = []any{moving, protection(core.Protected, 1, nil)}
	n.want(t, 1, "", "web1 stays on h1, which could not hand it over", "failover", "web1")
	n.answers["GET /v1/status"] = []any{moving}
	n.want(t, 1, "", "not on another host yet", "failover", "web1", "--timeout", "30ms")
}

func TestModeCommand(t *testing.T) {
	n := newNode(t)
	wanted := protection(core.Protected, 1, func(p *api.ProtectionStatus) { p.Mode, p.Wanted = core.Buffer, core.Checkpoint })
	n.answers["PATCH /v1/protections/web1"] = []any{wanted.Protections[0].Protection}
	n.answers["GET /v1/status"] = []any{wanted, protection(core.Protected, 1, func(p *api.ProtectionStatus) { p.Mode = core.Checkpoint })}
	n.want(t, 0, "web1 is in mode checkpoint\n", "", "mode", "web1", "checkpoint")
	n.answers["GET /v1/status"] = []any{wanted, protection(core.Protected, 1, func(p *api.ProtectionStatus) { p.Mode = core.Buffer })}
	n.want(t, 1, "", "web1 stays in mode buffer", "mode", "web1", "checkpoint")
}

func TestExplainCommand(t *testing.T) {
	n := newNode(t)
	n.answers["GET /v1/protections/web1/explain"] = []any{core.Explanation{Domain: "web1", Phase: core.Solo, Because: "h2 is silent",
		Next: "to copy its memory to h3", IfDead: []core.Death{{Node: "h1", Outcome: "lost"}}, Events: []core.Event{{Kind: core.GoSolo, Node: "h2"}}}}
	n.want(t, 0, "web1 is solo, for", "", "explain", "web1")
	n.want(t, 0, "next: to copy its memory to h3\n\nshould a host die now:\n  h1            lost\n", "", "explain", "web1")
	n.want(t, 0, `"outcome": "lost"`, "", "explain", "web1", "-o", "json")
}

func TestDrainCommand(t *testing.T) {
	n := newNode(t)
	n.answers["POST /v1/nodes/h1/drain"] = []any{map[string]any{}}
	n.answers["GET /v1/status"] = []any{
		protection(core.Protected, 1, func(p *api.ProtectionStatus) { p.Moving = true }),
		protection(core.Solo, 2, func(p *api.ProtectionStatus) { p.Primary, p.Backup = "h2", "" }),
	}
	n.want(t, 0, "h1 has no protected guest and no replica\n", "h1: web1 is moving\n", "drain", "h1")
	n.answers["GET /v1/status"] = []any{protection(core.Protected, 1, func(p *api.ProtectionStatus) { p.Primary, p.Backup = "h2", "h1" })}
	n.want(t, 1, "", "h1 is not empty yet: replica of web1", "drain", "h1", "--timeout", "500ms")
}

func TestStatus(t *testing.T) {
	n := newNode(t)
	n.answers["GET /v1/status"] = []any{api.Status{Node: "h3", Leader: "h1"}}
	n.want(t, 0, "nothing is protected", "", "status")
	n.answers["GET /v1/status"] = []any{protection(core.Protected, 4, func(p *api.ProtectionStatus) {
		p.Since = time.Now().Add(time.Hour) // by another clock
		p.Stats = &api.Stats{Epochs: 100, PauseP50: 1.52, DirtyP50: 77, Held: 3, Backend: "relay", Pages: 200, ZeroPages: 50}
	})}
	n.want(t, 0, "DOMAIN  PRIMARY  BACKUP  PHASE      GEN  EPOCH  PAUSE  DIRTY  HELD  FOR\nweb1    h1       h2      protected  4    25ms   1.5ms  77     3     0s\n", "", "status")
	n.want(t, 0, "25 % of all were zero", "", "status", "web1")
	n.want(t, 0, `"generation": 4`, "", "status", "web1", "-o", "json")
	n.answers["GET /v1/status"] = []any{protection(core.Protected, 4, func(p *api.ProtectionStatus) {
		p.Stats = &api.Stats{InputCopied: 9, InputLapse: "libvirt takes vnet0 out of Open vSwitch then"}
	})}
	n.want(t, 0, "0 lost; none should QEMU die and its host live: libvirt takes vnet0 out", "", "status", "web1")
	n.want(t, 3, "", "web2 is not protected", "status", "web2")
	n.answers["GET /v1/status"] = []any{protection(core.Solo, 5, func(p *api.ProtectionStatus) { p.Backup, p.Reason = "", "no heartbeat from h2" })}
	n.want(t, 0, "web1 is solo: no heartbeat from h2\n", "", "status")
	n.answers["GET /v1/status"] = []any{protection(core.Protected, 5, func(p *api.ProtectionStatus) {
		p.AntiAffinity, p.Together = "web", "web2 of its group web runs on h1, too"
	})}
	n.want(t, 0, "web1 is protected, but: web2 of its group web runs on h1, too\n", "", "status")
	n.want(t, 0, "anti-affinity  group web, but: web2 of its group", "", "status", "web1")
	probed := core.Probe{URL: "tcp://web1:80", Interval: 2 * time.Second}
	n.answers["GET /v1/status"] = []any{protection(core.Protected, 5, func(p *api.ProtectionStatus) { p.Probe = probed })}
	n.want(t, 0, "tcp://web1:80, every 2s: answers", "", "status", "web1")
	n.answers["GET /v1/status"] = []any{protection(core.Protected, 5, func(p *api.ProtectionStatus) { p.Probe, p.ProbeFailed = probed, "its service has not answered" })}
	n.want(t, 0, "web1 is protected, but: its service has not answered\n", "", "status")
	n.want(t, 0, "every 2s: its service has not answered", "", "status", "web1")
	s := protection(core.Protected, 1, nil)
	s.Leader = ""
	n.answers["GET /v1/status"] = []any{s}
	n.want(t, 0, "no manager leads: this is what h3 knew last", "", "status")
}

func TestNodeList(t *testing.T) {
	n := newNode(t)
	ms := int64(12)
	n.answers["GET /v1/nodes"] = []any{[]api.NodeStatus{
		{Node: core.Node{Name: "h1", Addr: "10.0.0.1"}, Manager: true, State: "alive", LastHeardMS: &ms, Leader: true},
		{Node: core.Node{Name: "h4", Addr: "10.0.0.4"}, State: "silent"}}}
	n.want(t, 0, "h1    10.0.0.1  alive   12 ms ago  leader  -\nh4    10.0.0.4  silent  -          agent   -\n", "", "node", "list")
}

func TestManagerCommands(t *testing.T) {
	n := newNode(t)
	h := func(name string) api.NodeStatus {
		return api.NodeStatus{Node: core.Node{Name: name, Addr: "10.0.0." + name[1:]}, Manager: true, State: "alive", Leader: name == "h1"}
	}
	three := api.Managers{Managers: []api.NodeStatus{h("h1"), h("h2"), h("h3")}, Majority: 2}
	four := api.Managers{Managers: append(three.Managers, h("h4")), Majority: 3, Warning: "4 managers survive no more failures than 3"}
	n.answers["GET /v1/managers"] = []any{three}
	n.answers["POST /v1/managers/h4"] = []any{four}
	n.answers["DELETE /v1/managers/h1"] = []any{three}
	n.answers["DELETE /v1/managers/h9"] = []any{api.Failure(api.CodeConflict, "see hamgr manager list", "h9 is not a manager")}
	n.want(t, 0, "MANAGER  ADDRESS   STATE  HEARD  ROLE\nh1       10.0.0.1  alive  -      leader\nh2       10.0.0.2  alive  -      manager\n", "", "manager", "list")
	n.want(t, 0, `"majority": 2`, "", "manager", "list", "-o", "json")
	n.want(t, 0, "h4 is a manager\nMANAGER", "warning: 4 managers survive no more failures than 3\n", "manager", "add", "h4")
	n.want(t, 0, `"warning": "4 managers`, "warning: 4", "manager", "add", "h4", "-o", "json")
	n.want(t, 0, "h1 is not a manager any more\nMANAGER", "", "manager", "remove", "h1")
	n.want(t, 4, "", "h9 is not a manager\n  see hamgr manager list", "manager", "remove", "h9")
	n.want(t, 2, "", "accepts 1 arg", "manager", "add")
	n.want(t, 2, "", "unknown command", "manager", "lisst")
	n.want(t, 0, "hamgr manager remove h1", "", "manager", "add", "--help")
}

func TestCheck(t *testing.T) {
	n := newNode(t)
	n.answers["GET /v1/check"] = []any{[]api.CheckResult{{Name: "qemu", OK: true, Detail: "11.1.3"}, {Name: "memory", Detail: "no tmpfs", Advice: "mount one"}}}
	n.want(t, 1, "memory  FAILED  no tmpfs  mount one", "1 of 2 checks failed, the first is memory: no tmpfs\n  mount one", "check")
	n.answers["GET /v1/check"] = []any{[]api.CheckResult{{Name: "qemu", OK: true}}}
	n.want(t, 0, "qemu   ok", "", "check")
}

func TestEvents(t *testing.T) {
	n := newNode(t)
	e := core.Event{Index: 3, Time: time.Now(), Kind: core.FailOver, Domain: "web1", Node: "h1", Target: "h2", Generation: 2, Cause: "no heartbeat"}
	later := e
	later.Index, later.Kind = 4, core.Restored
	n.answers["GET /v1/events"] = []any{[]core.Event{e}}
	n.want(t, 0, "failover          2  h1 -> h2: no heartbeat\n", "", "events")
	n.answers["GET /v1/events"] = []any{[]core.Event{e}, []core.Event{}, []core.Event{later}, api.Failure(api.CodeUnreachable, "", "gone")}
	code, out, _ := n.hamgr(t, "events", "--follow", "-o", "json")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 5 || len(lines) != 2 || !strings.Contains(lines[1], `"restored"`) {
		t.Errorf("%d, %q", code, out)
	}
}

func TestCompletion(t *testing.T) {
	n := newNode(t)
	s := protection(core.Protected, 1, func(p *api.ProtectionStatus) { p.AntiAffinity = "web" })
	s.Nodes = []api.NodeStatus{{Node: core.Node{Name: "h1"}, Manager: true}, {Node: core.Node{Name: "h2"}}}
	n.answers["GET /v1/status"] = []any{s}
	for want, args := range map[string][]string{"web1\n": {"unprotect", ""}, "h1\nh2\n": {"protect", "x", "--backup", ""}, "web\n": {"protect", "x", "--anti-affinity", ""},
		"h1\n:": {"manager", "remove", ""}, "h2\n:": {"manager", "add", ""}, "tcp://\nhttp://\n": {"protect", "x", "--probe", ""}} {
		var out, errOut bytes.Buffer
		run(t.Context(), append([]string{"__complete", "--url", n.URL}, args...), &out, &errOut)
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("%v: %q %q", args, out.String(), errOut.String())
		}
	}
}

func TestConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hamgr.yaml")
	text := "node: h2\naddr: 10.0.0.2\nsocket: /run/other.sock\nmanagers: {h1: 10.0.0.1, h2: 10.0.0.2, h3: 10.0.0.3}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := config.Config{DataDir: "/var/data"}
	c, err := configuration(file, "", flags)
	if err != nil || c.Node != "h2" || c.Socket != "/run/other.sock" || c.DataDir != "/var/data" {
		t.Fatalf("%+v, %v", c, err)
	}
	flags.Node, flags.Addr = "h1", "10.0.0.1"
	c, err = configuration(file, "h1=10.0.0.1", flags)
	if err != nil || c.Node != "h1" || fmt.Sprint(c.Managers) != "map[h1:10.0.0.1]" {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := configuration(file, "h1=10.0.0.9", flags); err == nil || !strings.Contains(err.Error(), "10.0.0.9") {
		t.Errorf("%v", err)
	}
}
