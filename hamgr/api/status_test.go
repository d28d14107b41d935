package api

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

func TestStatus(t *testing.T) {
	w := newWorld(t, "h2", "h1", "h2", "h3")
	protected(t, w)
	w.nodes["h1"].agent.stats = func() map[string]Stats { return map[string]Stats{"web1": {Epochs: 42, PauseP50: 1.5}} }
	w.set(func() { w.live["h3"] = "silent" })
	w.nodes["h2"].server.Liveness = func() map[string]NodeLiveness {
		return map[string]NodeLiveness{"h1": {State: alive, LastHeard: time.Now().Add(-30 * time.Millisecond)}, "h3": {State: "silent", LastHeard: time.Now().Add(-time.Minute)}}
	}
	s, err := w.client("h2").Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Node != "h2" || s.Leader != "h2" || s.Index != w.agreed.Index || len(s.Nodes) != 3 || len(s.Protections) != 1 {
		t.Fatalf("%+v", s)
	}
	if n := s.Nodes[1]; n.State != alive || !n.Leader || *n.LastHeardMS != 0 {
		t.Errorf("itself: %+v", n)
	}
	if n := s.Nodes[2]; n.State != "silent" || n.Leader || *n.LastHeardMS < 60_000 {
		t.Errorf("h3: %+v", n)
	}
	if x := s.Protections[0].Stats; x == nil || x.Epochs != 42 {
		t.Errorf("stats %+v", x)
	}
	nodes, err := w.client("h3").Nodes(t.Context())
	if err != nil || len(nodes) != 3 || nodes[0].LastHeardMS != nil {
		t.Errorf("%+v, %v", nodes, err)
	}
}

// TestStatusDoesNotWait: a primary that hangs costs 300 ms, one that is silent nothing.
func TestStatusDoesNotWait(t *testing.T) {
	w := newWorld(t, "h2", "h1", "h2")
	protected(t, w)
	asked, hang := make(chan struct{}, 9), make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-hang }))
	defer stuck.Close()
	defer close(hang)
	w.nodes["h1"].http.URL = stuck.URL
	tries := 0
	for limit := time.Now().Add(20 * time.Second); len(asked) == 0; tries++ { // on a busy machine its time may be over before it has asked
		start := time.Now()
		s, err := w.client("h2").Status(t.Context())
		if took := time.Since(start); err != nil || s.Protections[0].Stats != nil || took < statsTimeout || took > 10*statsTimeout {
			t.Errorf("%+v, %v after %s", s, err, took)
		}
		if time.Now().After(limit) {
			t.Fatal("h1 was never asked")
		}
	}
	w.set(func() { w.live["h1"] = "silent" })
	if _, err := w.client("h2").Status(t.Context()); err != nil || len(asked) > tries {
		t.Errorf("%v, asked %d times by %d", err, len(asked), tries)
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t, "h1", "h1")
	c := w.client("h1")
	all, err := c.Events(t.Context(), 0, 0)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	last := all[0].Index
	if none, err := c.Events(t.Context(), last, 20*time.Millisecond); err != nil || none == nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	type result struct {
		list []core.Event
		err  error
	}
	done := make(chan result, 1)
	go func() {
		list, err := c.Events(t.Context(), last, time.Hour)
		done <- result{list, err}
	}()
	w.must(t, core.Command{Kind: core.RegisterNode, Node: &core.Node{Name: "h2", ID: "2", Addr: "10.0.0.2"}})
	if r := <-done; r.err != nil || len(r.list) != 1 || r.list[0].Node != "h2" {
		t.Errorf("%+v", r)
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t, "h1", "h1")
	var got []CheckResult
	check := func() { // GET carries no body
		if err := w.client("h1").Do(t.Context(), http.MethodGet, "/v1/check", nil, &got); err != nil || len(got) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if check(); !got[0].OK || got[0].Detail != "h1 leads" {
		t.Errorf("%+v", got)
	}
	w.set(func() { w.leader = "" })
	if check(); got[0].OK || got[0].Advice == "" {
		t.Errorf("%+v", got)
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t, "h1", "h1", "h2")
	protected(t, w)
	w.nodes["h1"].agent.stats = func() map[string]Stats {
		return map[string]Stats{"web1": {Epochs: 42, PauseP99: 2, BytesSent: 1000, Dropped: 3}}
	}
	w.set(func() { w.live["h2"] = "silent" })
	resp, err := http.Get(w.nodes["h1"].http.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for _, line := range []string{
		"hamgr_leader 1", `hamgr_node_alive{node="h2"} 0`, `hamgr_epochs_total{domain="web1"} 42`,
		`hamgr_pause_seconds{domain="web1",quantile="0.99"} 0.002`, `hamgr_output_dropped_packets_total{domain="web1"} 3`,
		`hamgr_protection_info{backup="h2",domain="web1",phase="protected",primary="h1"} 1`, `hamgr_protection_generation{domain="web1"} 1`,
	} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

func TestClientErrors(t *testing.T) {
	_, err := NewClient("http://127.0.0.1:1").Status(t.Context())
	wantError(t, err, CodeUnreachable, 5, "does not answer")
	_, err = NewSocketClient(filepath.Join(t.TempDir(), "none.sock")).Status(t.Context())
	wantError(t, err, CodeUnreachable, 5, "none.sock")
	_, err = NewClient("http://[::1").Status(t.Context())
	wantError(t, err, CodeBadRequest, 2, "http://address:port")

	for _, c := range []struct {
		answer http.HandlerFunc
		code   string
		exit   int
		words  string
	}{
		{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, CodeUnknown, 5, "took the request"},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you", http.StatusTeapot) }, CodeFailed, 1, "who are you"},
		{func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, CodeFailed, 1, "makes no sense"},
	} {
		srv := httptest.NewServer(c.answer)
		_, err := NewClient(srv.URL).Status(t.Context())
		wantError(t, err, c.code, c.exit, c.words)
		srv.Close()
	}
}

// TestSocket also shows that no connection is left behind, and that the environment's
// proxy is not asked.
func TestSocket(t *testing.T) {
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	w := newWorld(t, "h1", "h1", "h2")
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: w.nodes["h2"].http.Config.Handler}
	go srv.Serve(ln)
	defer srv.Close()
	c, before := NewSocketClient(ln.Addr().String()), openFiles(t)
	for range 20 {
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Propose(t.Context(), core.Command{Kind: "dance"}); !core.Refused(err) {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(5 * time.Second); openFiles(t) > before+4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d files open, %d before", openFiles(t), before)
		}
	}
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestPeerAddress(t *testing.T) {
	s := &Server{Port: 8400}
	if got := s.clientOf("fd00::1").base; got != "http://[fd00::1]:8400" {
		t.Error(got)
	}
	if got := (&Server{}).clientOf("10.0.0.1").base; got != "http://10.0.0.1:7400" {
		t.Error(got)
	}
}

func TestExplain(t *testing.T) {
	w := newWorld(t, "h3", "h1", "h2", "h3")
	get := func(e *core.Explanation) error {
		return w.client("h1").Do(t.Context(), http.MethodGet, "/v1/protections/web1/explain", nil, e)
	}
	wantError(t, get(nil), CodeNotFound, 3, "web1 is not protected")
	protected(t, w)
	var e core.Explanation
	if err := get(&e); err != nil || len(e.IfDead) != 3 || len(e.Events) != 2 || e.IfDead[0].Outcome != "goes on at h2, nothing is lost; then protected again on h3" {
		t.Fatalf("%+v, %v", e, err)
	}
	w.set(func() { w.live["h2"] = silent })
	if err := get(&e); err != nil || e.Next != "to go on without h2: h2 is silent" {
		t.Fatalf("%+v, %v", e, err)
	}
}
