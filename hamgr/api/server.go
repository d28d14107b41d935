package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/saved"
)

// Server answers for one node. Node, Cluster, Agent and one of Alive and Liveness must be
// set before Handler is called, and not changed after.
type Server struct {
	Node     string
	Name     string // of the cluster, as configured; for saved states
	Cluster  Cluster
	Agent    Agent
	Liveness func() map[string]NodeLiveness // of the other nodes
	Alive    func() map[string]string       // the same, states only; used if Liveness is nil

	Port     int                  // of the other nodes' API; Port if 0
	Epoch    time.Duration        // of a protection that asks for none; core.DefaultEpoch if 0
	Registry *prometheus.Registry // where /metrics comes from; one of its own if nil

	peer       func(addr string) *Client // of the node at a management address; tests replace it
	leaderWait time.Duration             // leaderWait if 0
}

const (
	maxRequest  = 1 << 20
	maxState    = saved.MaxSize + maxRequest
	bodyTimeout = 5 * time.Second
)

// Handler has all routes. It may be called once.
func (s *Server) Handler() http.Handler {
	if s.peer == nil {
		s.peer = s.clientOf
	}
	if s.leaderWait == 0 {
		s.leaderWait = leaderWait
	}
	if s.Registry == nil {
		s.Registry = prometheus.NewRegistry()
	}
	s.Registry.MustRegister(&collector{s})
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/status", answer(s.status))
	m.HandleFunc("GET /v1/nodes", answer(s.nodes))
	m.HandleFunc("GET /v1/events", answer(s.events))
	m.HandleFunc("GET /v1/check", answer(s.check))
	m.HandleFunc("POST /v1/protections", s.onLeader(s.protect))
	m.HandleFunc("DELETE /v1/protections/{domain}", s.onLeader(s.unprotect))
	m.HandleFunc("GET /v1/protections/{domain}/explain", s.onLeader(s.explain))
	m.HandleFunc("PATCH /v1/protections/{domain}", s.onLeader(s.change))
	m.HandleFunc("POST /v1/protections/{domain}/failover", s.onLeader(s.failover))
	m.HandleFunc("POST /v1/nodes/{node}/drain", s.onLeader(s.drain))
	m.HandleFunc("POST /v1/nodes/{node}/undrain", s.onLeader(s.undrain))
	m.HandleFunc("GET /v1/managers", answer(s.managers))
	m.HandleFunc("POST /v1/managers/{node}", s.onLeader(s.addManager))
	m.HandleFunc("DELETE /v1/managers/{node}", s.removeManager)
	m.HandleFunc("POST /v1/hand-over", answer(s.handOver))
	m.HandleFunc("POST /v1/nodes/{node}/blank", s.onLeader(s.blank))
	m.HandleFunc("GET /v1/standing", answer(s.standing))
	m.HandleFunc("GET /v1/state", s.onLeader(s.saveState))
	m.HandleFunc("POST /v1/state/restore", s.onLeaderTaking(maxState, s.restoreState))
	m.HandleFunc("POST /v1/propose", s.onLeader(s.propose))
	m.HandleFunc("GET /v1/agent/domains/{name}", answer(s.agentDomain))
	m.HandleFunc("GET /v1/agent/domains/{name}/definition", answer(s.agentDefinition))
	m.HandleFunc("POST /v1/agent/backup-check", answer(s.backupCheck))
	m.HandleFunc("POST /v1/agent/probe", answer(s.agentProbe))
	m.HandleFunc("GET /v1/agent/stats", answer(s.agentStats))
	m.HandleFunc("GET /v1/agent/sightings", answer(s.agentSightings))
	m.Handle("GET /metrics", promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}))
	m.HandleFunc("/", answer(noRoute))
	return http.NewCrossOriginProtection().Handler(m) // an operator's browser is no way in
}

func (s *Server) clientOf(addr string) *Client {
	port := s.Port
	if port == 0 {
		port = Port
	}
	return NewClient("http://" + net.JoinHostPort(addr, strconv.Itoa(port)))
}

// handler does a request's work; in is its body.
type handler func(r *http.Request, in json.RawMessage) (any, error)

func answer(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, err := body(w, r, maxRequest)
		if err != nil {
			reply(w, nil, err)
			return
		}
		out, err := h(r, in)
		reply(w, out, err)
	}
}

// body reads a request whole. An empty one counts as null.
func body(w http.ResponseWriter, r *http.Request, limit int64) (json.RawMessage, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // a recorder in a test has none
	in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = control.SetReadDeadline(time.Time{})
	if err != nil {
		return nil, Failure(CodeBadRequest, "", "the request could not be read: %v", err)
	}
	if in = bytes.TrimSpace(in); len(in) == 0 {
		return json.RawMessage("null"), nil
	}
	if !json.Valid(in) {
		return nil, Failure(CodeBadRequest, "", "the request is not JSON: %.80q", in)
	}
	return in, nil
}

func decode(in json.RawMessage, out any) error {
	if err := json.Unmarshal(in, out); err != nil {
		return Failure(CodeBadRequest, "", "the request: %v", err)
	}
	return nil
}

func reply(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := asError(err)
		w.WriteHeader(codes[e.Code].HTTP)
		out = map[string]*Error{"error": e}
	} else if out == nil {
		out = struct{}{}
	}
	_ = json.NewEncoder(w).Encode(out) // to a caller who has left: nobody to tell
}

func noRoute(r *http.Request, _ json.RawMessage) (any, error) {
	return nil, Failure(CodeNotFound, "is the other side of another version?", "there is no %s %s in this API", r.Method, r.URL.Path)
}

// liveness is a copy for the caller to write into.
func (s *Server) liveness() map[string]NodeLiveness {
	out := map[string]NodeLiveness{}
	if s.Liveness != nil {
		maps.Copy(out, s.Liveness())
		return out
	}
	for name, state := range s.Alive() {
		out[name] = NodeLiveness{State: state}
	}
	return out
}

func (s *Server) check(r *http.Request, _ json.RawMessage) (any, error) {
	leader, _ := s.Cluster.Leader()
	managers := CheckResult{Name: "managers", OK: leader != "", Detail: leader + " leads"}
	if !managers.OK {
		managers.Detail = "no manager leads"
		managers.Advice = "more than half of the managers must run hamgr serve and reach each other"
	}
	return append([]CheckResult{managers}, s.Agent.Check(r.Context())...), nil
}

func (s *Server) agentStats(*http.Request, json.RawMessage) (any, error) { return s.Agent.Stats(), nil }

func (s *Server) agentSightings(r *http.Request, _ json.RawMessage) (any, error) {
	return s.Agent.Sightings(r.Context())
}

func (s *Server) agentDomain(r *http.Request, _ json.RawMessage) (any, error) {
	var index uint64
	if text := r.URL.Query().Get("index"); text != "" {
		var err error
		if index, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, Failure(CodeBadRequest, "a number is wanted", "index=%q", text)
		}
	}
	return s.Agent.Domain(r.Context(), r.PathValue("name"), index)
}

func (s *Server) agentDefinition(r *http.Request, _ json.RawMessage) (any, error) {
	return s.Agent.Definition(r.Context(), r.PathValue("name"))
}

func (s *Server) backupCheck(r *http.Request, in json.RawMessage) (any, error) {
	var q BackupRequest
	if err := decode(in, &q); err != nil {
		return nil, err
	}
	if err := s.Agent.BackupCheck(r.Context(), q); err != nil {
		return nil, Failure(CodeRefused, "", "%v", err)
	}
	return nil, nil
}

func (s *Server) propose(r *http.Request, in json.RawMessage) (any, error) {
	var c core.Command
	if err := decode(in, &c); err != nil {
		return nil, err
	}
	return nil, s.agree(r.Context(), c)
}

// agree proposes. What core did not refuse may yet take effect, and says so.
func (s *Server) agree(ctx context.Context, c core.Command) error {
	return s.unsettled(ctx, s.Cluster.Propose(ctx, c))
}

// unsettled is what an error of the cluster's says about what became of a request.
func (s *Server) unsettled(ctx context.Context, err error) error {
	if err == nil || core.Refused(err) {
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if errors.Is(err, cluster.ErrNotLeader) {
		return Failure(CodeNotLeader, "try again", "%s leads no more", s.Node)
	}
	return Failure(CodeUnknown, "more than half of the managers must run and reach each other; hamgr status shows what has come of it",
		"the managers have not agreed: %v", err)
}

// gather runs f for each name at once and returns when all are done.
func gather(names []string, f func(name string)) {
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Go(func() { f(n) })
	}
	wg.Wait()
}
