package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestProtectFromAnyNode(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2", "h3")
	w.nodes["h2"].agent.domains["web1"] = running("web1")
	w.nodes["h1"].server.Epoch = 40 * time.Millisecond
	for _, at := range []string{"h1", "h2", "h3"} {
		var p core.Protection
		if err := post(t, w.client(at), "/v1/protections", ProtectRequest{Domain: "web1"}, &p); err != nil {
			t.Fatalf("at %s: %v", at, err)
		}
		if p.Primary != "h2" || p.Backup != "h1" || p.Phase != core.Syncing || p.UUID != "uuid-web1" || p.Memory != 1<<30 ||
			p.Mode != core.Buffer || p.Epoch != 40*time.Millisecond || !p.Input {
			t.Errorf("at %s: %+v", at, p)
		}
		if err := w.client(at).Do(t.Context(), http.MethodDelete, "/v1/protections/web1", nil, nil); err != nil {
			t.Fatalf("at %s: %v", at, err)
		}
	}
}

// TestProtectNoCopyOfAFormerTime: a host that had the guest before it ended elsewhere, and
// was out of sight since, may have a copy still. What runs there counts once the host has
// seen to the end of the protection.
func TestProtectNoCopyOfAFormerTime(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2", "h3")
	at := w.nodes["h2"].agent
	at.domains["web1"], at.behind = running("web1"), true
	q := ProtectRequest{Domain: "web1"}
	if err := post(t, w.client("h1"), "/v1/protections", q, nil); err != nil {
		t.Fatal("nothing to be seen to, and: ", err)
	}
	if err := w.client("h1").Do(t.Context(), http.MethodDelete, "/v1/protections/web1", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := post(t, w.client("h1"), "/v1/protections", q, nil); err == nil || !contains(err.Error(), errNotSettled.Error()) {
		t.Errorf("not seen to, and: %v", err)
	}
	at.behind = false
	if err := post(t, w.client("h1"), "/v1/protections", q, nil); err != nil {
		t.Errorf("seen to, and: %v", err)
	}
}

func TestProtectWithoutInput(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	w.nodes["h1"].agent.domains["web1"] = running("web1")
	var p core.Protection
	no := false
	if err := post(t, w.client("h1"), "/v1/protections", ProtectRequest{Domain: "web1", Input: &no}, &p); err != nil || p.Input {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestProtectWithAProbe(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	w.nodes["h1"].agent.domains["web1"] = running("web1")
	w.nodes["h2"].agent.probe = errors.New("it is not h2 that is to ask")
	var p core.Protection
	q := ProtectRequest{Domain: "web1", EpochMS: 200, Probe: &ProbeRequest{URL: "http://web1/ready", Failures: 5}}
	want := core.Probe{URL: "http://web1/ready", Interval: 2 * time.Second, Timeout: 1600 * time.Millisecond, Failures: 5}
	if err := post(t, w.client("h2"), "/v1/protections", q, &p); err != nil || p.Probe != want {
		t.Errorf("%+v, %v", p.Probe, err)
	}
}

func TestProtectSpreadsReplicas(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2", "h3")
	var backups []string
	for _, name := range []string{"a", "b", "c"} {
		w.nodes["h1"].agent.domains[name] = running(name)
		var p core.Protection
		if err := post(t, w.client("h1"), "/v1/protections", ProtectRequest{Domain: name, EpochMS: 10}, &p); err != nil {
			t.Fatal(err)
		}
		backups = append(backups, p.Backup)
	}
	if got := strings.Join(backups, " "); got != "h2 h3 h2" {
		t.Errorf("backups %s", got)
	}
}

// TestProtectKeepsAGroupApart: the fewest replicas come second. Of web3 no usable host is apart.
func TestProtectKeepsAGroupApart(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2", "h3", "h4")
	w.must(t, core.Command{Kind: core.Drain, Node: &core.Node{Name: "h4"}})
	for _, c := range []struct{ domain, on, backup string }{{"web1", "h2", "h1"}, {"web2", "h1", "h3"}, {"web3", "h1", "h2"}} {
		w.nodes[c.on].agent.domains[c.domain] = running(c.domain)
		var p core.Protection
		if err := post(t, w.client("h1"), "/v1/protections", ProtectRequest{Domain: c.domain, AntiAffinity: "web"}, &p); err != nil {
			t.Fatal(err)
		}
		if p.Backup != c.backup || p.AntiAffinity != "web" {
			t.Errorf("%s on %s: %+v", c.domain, c.on, p)
		}
	}
}

func TestProtectRefusals(t *testing.T) {
	full := errors.New("the replica needs 1152 MiB, there are 300 MiB free")
	for _, c := range []struct {
		name  string
		q     ProtectRequest
		with  func(w *world)
		code  string
		exit  int
		words []string
	}{
		{"no name", ProtectRequest{}, nil, CodeBadRequest, 2, []string{"no domain is named"}},
		{"unknown domain", ProtectRequest{Domain: "nosuch"}, nil, CodeNotFound, 3, []string{`no domain "nosuch" on h1, h2, h3`}},
		{"odd name", ProtectRequest{Domain: "a/b ?x"}, nil, CodeNotFound, 3, []string{`no domain "a/b ?x" on h1, h2, h3`}},
		{"unknown domain, a node silent", ProtectRequest{Domain: "nosuch"}, func(w *world) { w.live["h3"] = "silent" },
			CodeNotFound, 3, []string{`on h1, h2; not asked: h3 is silent`}},
		{"a node cannot say", ProtectRequest{Domain: "nosuch"}, func(w *world) { w.nodes["h2"].agent.broken = errors.New("no libvirt") },
			CodeFailed, 1, []string{"h2: no libvirt"}},
		{"shut off", ProtectRequest{Domain: "off"}, func(w *world) { w.nodes["h3"].agent.domains["off"] = DomainInfo{State: "shut off"} },
			CodeConflict, 4, []string{"defined on h3, but shut off", "virsh start"}},
		{"runs twice", ProtectRequest{Domain: "web1"}, func(w *world) { w.nodes["h3"].agent.domains["web1"] = running("web1") },
			CodeConflict, 4, []string{"both h1 and h3"}},
		{"cannot do COLO", ProtectRequest{Domain: "web1"}, func(w *world) {
			d := running("web1")
			d.Problems = []string{"its QEMU cannot do COLO", "it has a writable disk"}
			w.nodes["h1"].agent.domains["web1"] = d
		}, CodeRefused, 1, []string{"on h1", "cannot do COLO; it has a writable disk"}},
		{"already protected", ProtectRequest{Domain: "web1"}, func(w *world) {
			w.nodes["h1"].Propose(nil, core.Command{Kind: core.Protect, Protection: &core.Protection{Domain: "web1", UUID: "u", Primary: "h1", Backup: "h2"}})
		}, CodeConflict, 4, []string{"already protected: syncing, h1 -> h2", "unprotect web1"}},
		{"protected under another name", ProtectRequest{Domain: "web1"}, func(w *world) {
			w.nodes["h1"].Propose(nil, core.Command{Kind: core.Protect, Protection: &core.Protection{Domain: "old", UUID: "uuid-web1", Primary: "h1", Backup: "h2"}})
		}, "already-protected", 4, []string{`"old"`, "uuid-web1"}},
		{"no such backup", ProtectRequest{Domain: "web1", Backup: "h9"}, nil, CodeNotFound, 3, []string{`no node "h9"`, "known nodes: h1, h2, h3"}},
		{"backup is the primary", ProtectRequest{Domain: "web1", Backup: "h1"}, nil, CodeConflict, 4, []string{"cannot be its own backup"}},
		{"backup is dead", ProtectRequest{Domain: "web1", Backup: "h2"}, func(w *world) { w.live["h2"] = "silent" }, CodeRefused, 1, []string{"h2 is silent"}},
		{"backup refuses", ProtectRequest{Domain: "web1", Backup: "h2"}, func(w *world) { w.nodes["h2"].agent.backup = full },
			CodeRefused, 1, []string{"h2: the replica needs 1152 MiB, there are 300 MiB free"}},
		{"nobody takes it", ProtectRequest{Domain: "web1"}, func(w *world) { w.nodes["h2"].agent.backup = full; delete(w.live, "h3") },
			CodeRefused, 1, []string{"no backup for web1", "h2: the replica needs", "h3 is not heard of yet"}},
		{"epoch too short", ProtectRequest{Domain: "web1", EpochMS: 1}, nil, CodeBadRequest, 2, []string{"an epoch of 1 ms"}},
		{"epoch negative", ProtectRequest{Domain: "web1", EpochMS: -3}, nil, CodeBadRequest, 2, []string{"an epoch of -3 ms"}},
		{"epoch that overflows", ProtectRequest{Domain: "web1", EpochMS: 1 << 62}, nil, CodeBadRequest, 2, []string{"an epoch of"}},
		{"mode", ProtectRequest{Domain: "web1", Mode: "replay"}, nil, CodeBadRequest, 2, []string{`mode "replay"`}},
		{"a probe of nothing", ProtectRequest{Domain: "web1", Probe: &ProbeRequest{URL: "ping"}}, nil, CodeBadRequest, 2, []string{`probe "ping"`, "tcp://"}},
		{"a probe too often", ProtectRequest{Domain: "web1", Probe: &ProbeRequest{URL: "tcp://web1:80", IntervalMS: 1}}, nil, CodeBadRequest, 2, []string{"every 1ms"}},
		{"a probe that overflows", ProtectRequest{Domain: "web1", Probe: &ProbeRequest{URL: "tcp://web1:80", IntervalMS: 1 << 62}}, nil, CodeBadRequest, 2, []string{"to 1h0m0s"}},
		{"a probe that waits for less than an answer takes", ProtectRequest{Domain: "web1", EpochMS: 100, Probe: &ProbeRequest{URL: "tcp://web1:80", TimeoutMS: 500}}, nil, CodeBadRequest, 2, []string{"waits for 500ms", "from 800ms"}},
		{"a probe and long epochs", ProtectRequest{Domain: "web1", EpochMS: 5000, Probe: &ProbeRequest{URL: "tcp://web1:80"}}, nil, CodeBadRequest, 2, []string{"epochs of 5s"}},
		{"a probe that never counts", ProtectRequest{Domain: "web1", Probe: &ProbeRequest{URL: "tcp://web1:80", Failures: -1}}, nil, CodeBadRequest, 2, []string{"after -1 failures"}},
		{"a probe that fails", ProtectRequest{Domain: "web1", Probe: &ProbeRequest{URL: "tcp://web1:80"}}, func(w *world) {
			w.nodes["h1"].agent.probe = errors.New("connection refused")
		}, CodeRefused, 1, []string{"web1 does not answer its probe from h1: connection refused", "a way into its network"}},
		{"a group without a name", ProtectRequest{Domain: "web1", AntiAffinity: " "}, nil, CodeBadRequest, 2, []string{`" " cannot name`}},
		{"backup is drained", ProtectRequest{Domain: "web1", Backup: "h2"}, func(w *world) {
			w.apply(core.Command{Kind: core.Drain, Node: &core.Node{Name: "h2"}})
		}, CodeRefused, 1, []string{"h2 is drained"}},
		{"no majority", ProtectRequest{Domain: "web1"}, func(w *world) { w.quorum = errors.New("leadership lost") },
			CodeUnknown, 5, []string{"leadership lost", "more than half"}},
		{"leader behind", ProtectRequest{Domain: "web1"}, func(w *world) { w.lagging["h1"], w.seen["h1"] = true, core.State{} },
			CodeUnreachable, 5, []string{"not caught up"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "h1", "h1", "h2", "h3")
			w.nodes["h3"].server.leaderWait = 50 * time.Millisecond
			w.nodes["h1"].agent.domains["web1"] = running("web1")
			if c.with != nil {
				c.with(w)
			}
			before := len(w.agreed.Protections)
			wantError(t, post(t, w.client("h3"), "/v1/protections", c.q, nil), c.code, c.exit, c.words...)
			if after := len(w.agreed.Protections); after != before {
				t.Errorf("%d protections before, %d after", before, after)
			}
		})
	}
}

func TestLoneNode(t *testing.T) {
	w := newWorld(t, "h1", "h1")
	w.nodes["h1"].agent.domains["web1"] = running("web1")
	wantError(t, post(t, w.client("h1"), "/v1/protections", ProtectRequest{Domain: "web1"}, nil), CodeRefused, 1, "h1 is the only node")
}

func protected(t *testing.T, w *world) {
	t.Helper()
	w.must(t, core.Command{Kind: core.Protect, Protection: &core.Protection{Domain: "web1", UUID: "u", Primary: "h1", Backup: "h2"}})
	w.must(t, core.Command{Kind: core.Synced, Domain: "web1", Generation: 1})
}

func TestFailover(t *testing.T) {
	w := newWorld(t, "h3", "h1", "h2", "h3")
	const path = "/v1/protections/web1/failover"
	wantError(t, post(t, w.client("h1"), path, nil, nil), CodeNotFound, 3, "web1 is not protected")
	protected(t, w)
	w.set(func() { w.live["h2"] = "silent" })
	wantError(t, post(t, w.client("h1"), path, nil, nil), CodeConflict, 4, "h2 is silent")
	w.set(func() { w.live["h2"] = alive })
	var p core.Protection
	if err := post(t, w.client("h1"), path, nil, &p); err != nil || !p.Moving || p.Primary != "h1" || p.Generation != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	p = core.Protection{}
	now := FailoverRequest{Now: true}
	if err := post(t, w.client("h1"), path, now, &p); err != nil || p.Moving || p.Primary != "h2" || p.Generation != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	if e := w.agreed.Events[len(w.agreed.Events)-1]; e.Kind != core.FailOver || e.Cause != "asked by operator" || e.Node != "h1" {
		t.Errorf("event %+v", e)
	}
	wantError(t, post(t, w.client("h1"), path, nil, nil), CodeConflict, 4, "it is recovering")
}

func TestFailoverBesideAPrimaryThatEmits(t *testing.T) {
	w := newWorld(t, "h3", "h1", "h2", "h3")
	protected(t, w)
	var p core.Protection
	if err := w.client("h2").Do(t.Context(), http.MethodPatch, "/v1/protections/web1", ChangeRequest{Mode: core.Checkpoint}, &p); err != nil || p.Wanted != core.Checkpoint {
		t.Fatalf("%+v, %v", p, err)
	}
	wantError(t, post(t, w.client("h1"), "/v1/protections/web1/failover", FailoverRequest{Now: true}, nil), "unfenced", 4, "both would speak")
}

func TestDrain(t *testing.T) {
	w := newWorld(t, "h3", "h1", "h2", "h3")
	wantError(t, post(t, w.client("h1"), "/v1/nodes/h9/drain", nil, nil), CodeNotFound, 3, `no node "h9"`)
	for _, c := range []struct {
		verb    string
		drained bool
	}{{"drain", true}, {"drain", true}, {"undrain", false}} {
		var n core.Node
		if err := post(t, w.client("h1"), "/v1/nodes/h2/"+c.verb, nil, &n); err != nil || n.Drained != c.drained || w.agreed.Nodes["h2"].Drained != c.drained {
			t.Fatalf("%s: %+v, %v", c.verb, n, err)
		}
	}
}

func TestUnprotect(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	del := func() error {
		return w.client("h2").Do(t.Context(), http.MethodDelete, "/v1/protections/web1", nil, nil)
	}
	wantError(t, del(), CodeNotFound, 3, "not protected")
	protected(t, w)
	if err := del(); err != nil || len(w.agreed.Protections) != 0 {
		t.Fatal(err, w.agreed.Protections)
	}
}

func TestProtectForALoss(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2", "h3")
	w.nodes["h2"].agent.domains["web1"] = running("web1")
	var p core.Protection
	if err := post(t, w.client("h3"), "/v1/protections", ProtectRequest{Domain: "web1", OnLoss: core.OnLossRestart}, &p); err != nil || p.OnLoss != core.OnLossRestart {
		t.Fatalf("%+v, %v", p, err)
	}
	if d := w.nodes["h1"].server.Cluster.State().Definitions["web1"]; !strings.Contains(d, "<name>web1</name>") {
		t.Errorf("definition: %q", d)
	}
	err := post(t, w.client("h3"), "/v1/protections", ProtectRequest{Domain: "web2", OnLoss: "reboot"}, &p)
	if !isCode(err, CodeBadRequest) {
		t.Errorf("a policy that does not exist: %v", err)
	}
}
