package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
)

func TestNoLeader(t *testing.T) {
	w := newWorld(t, "", "h1", "h2")
	w.nodes["h1"].server.leaderWait = 50 * time.Millisecond
	wantError(t, post(t, w.client("h1"), "/v1/protections", ProtectRequest{Domain: "x"}, nil), CodeUnreachable, 5, "no manager leads", "more than half")
}

// TestLeaderElectedMeanwhile: the request waits for the election, and passes over a
// leader that is dead and one that is no longer one.
func TestLeaderElectedMeanwhile(t *testing.T) {
	w := newWorld(t, "", "h1", "h2", "h3")
	protected(t, w)
	w.must(t, core.Command{Kind: core.RegisterNode, Node: &core.Node{Name: "dead", ID: "dead", Addr: "10.9.9.9"}})
	w.nodes["dead"] = &node{http: &httptest.Server{URL: "http://127.0.0.1:1"}}
	delete(w.seen, "dead")
	done := make(chan error, 1)
	go func() {
		done <- w.client("h1").Do(t.Context(), http.MethodDelete, "/v1/protections/web1", nil, nil)
	}()
	w.set(func() { w.leader = "dead" })
	select {
	case err := <-done:
		t.Fatalf("answered without a leader: %v", err)
	case <-time.After(60 * time.Millisecond):
	}
	w.set(func() { w.leader = "h2" })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestForwardedOnce(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	_, err := w.client("h2").do(t.Context(), http.MethodDelete, "/v1/protections/x", nil, nil, true)
	wantError(t, err, CodeNotLeader, 5, "h2 does not lead")
}

// TestLeaderDiesInTheMiddle: a leader that took the request and fell silent is waited
// for only until another leads.
func TestLeaderDiesInTheMiddle(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2", "h3")
	took, hang := make(chan struct{}), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(took)
		<-hang
	}))
	defer silent.Close()
	defer close(hang)
	w.nodes["h1"].http.URL = silent.URL
	done := make(chan error, 1)
	go func() { done <- post(t, w.client("h2"), "/v1/protections", ProtectRequest{Domain: "x"}, nil) }()
	<-took
	w.set(func() { w.leader = "h3" })
	wantError(t, <-done, CodeUnknown, 5, "leads no more, h3 does")
}

// TestReadYourWrites: a node that forwarded a change answers only when it has seen it.
func TestReadYourWrites(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	protected(t, w)
	w.set(func() { w.lagging["h2"] = true })
	done := make(chan error, 1)
	go func() {
		done <- w.client("h2").Do(t.Context(), http.MethodDelete, "/v1/protections/web1", nil, nil)
	}()
	early := func(wait <-chan struct{}, limit time.Duration) {
		t.Helper()
		select {
		case <-wait:
		case err := <-done:
			t.Fatalf("answered before it had seen the change: %v", err)
		case <-time.After(limit):
			if wait != nil {
				t.Fatal("the change is not agreed on")
			}
		}
	}
	for gone := false; !gone; {
		w.mu.Lock()
		gone = len(w.agreed.Protections) == 0
		changed := w.changed
		w.mu.Unlock()
		if !gone {
			early(changed, 5*time.Second)
		}
	}
	early(nil, 50*time.Millisecond)
	w.set(func() { w.lagging["h2"] = false })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestProposeCarriesRefusals(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	protected(t, w)
	for want, c := range map[error]core.Command{
		core.ErrStaleGeneration: {Kind: core.FailOver, Domain: "web1", Generation: 7},
		core.ErrWrongPhase:      {Kind: core.Restored, Domain: "web1", Generation: 1},
		core.ErrUnknownDomain:   {Kind: core.GoSolo, Domain: "nosuch"},
		core.ErrBadCommand:      {Kind: "dance", Domain: "web1", Generation: 1},
		core.ErrNodeNameTaken:   {Kind: core.RegisterNode, Node: &core.Node{Name: "h1", ID: "other", Addr: "10.0.0.9"}},
	} {
		if err := w.client("h2").Propose(t.Context(), c); !errors.Is(err, want) || !core.Refused(err) {
			t.Errorf("%s: %v, want %v", c.Kind, err, want)
		}
	}
	if err := w.client("h2").Propose(t.Context(), core.Command{Kind: core.GoSolo, Domain: "web1", Generation: 1}); err != nil {
		t.Error(err)
	}
	w.set(func() { w.quorum = errors.New("leadership lost") })
	if err := w.client("h2").Propose(t.Context(), core.Command{Kind: core.Assign}); core.Refused(err) || err == nil {
		t.Errorf("not final: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t, "h1", "h1")
	for _, c := range []struct{ method, path, body, code string }{
		{"POST", "/v1/protections", "{", CodeBadRequest},
		{"POST", "/v1/protections", `{"domain": 7}`, CodeBadRequest},
		{"POST", "/v1/protections", strings.Repeat(" ", maxRequest+1), CodeBadRequest},
		{"POST", "/v1/propose", `[]`, CodeBadRequest},
		{"POST", "/v1/propose", ``, "bad-command"},
		{"POST", "/v1/agent/backup-check", `[]`, CodeBadRequest},
		{"DELETE", "/v1/protections/x", "", CodeNotFound},
		{"DELETE", "/v1/protections/", "", CodeNotFound},
		{"PATCH", "/v1/status", "", CodeNotFound},
		{"GET", "/v1/events?since=-1", "", CodeBadRequest},
		{"GET", "/v1/events?wait=long", "", CodeBadRequest},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), c.method, w.nodes["h1"].http.URL+c.path, strings.NewReader(c.body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if e := decodeError(resp.Status, data); e.Code != c.code || resp.StatusCode != codes[c.code].HTTP {
			t.Errorf("%s %s: %s %+v, want %s", c.method, c.path, resp.Status, e, c.code)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", w.nodes["h1"].http.URL+"/v1/propose", strings.NewReader("{}"))
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another site's page: %v, %v", resp, err)
	}
}

// TestLeadershipLostInTheMiddle: a command that the leader could not even begin is tried
// where the next one leads.
func TestLeadershipLostInTheMiddle(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	protected(t, w)
	w.set(func() { w.quorum = fmt.Errorf("h1: %w", cluster.ErrNotLeader) })
	done := make(chan error, 1)
	go func() {
		done <- w.client("h2").Do(t.Context(), http.MethodDelete, "/v1/protections/web1", nil, nil)
	}()
	select {
	case err := <-done:
		t.Fatalf("answered without a leader: %v", err)
	case <-time.After(60 * time.Millisecond):
	}
	w.set(func() { w.quorum, w.leader = nil, "h2" })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
