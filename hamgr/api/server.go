package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/agent"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// Server answers for one node.
type Server struct {
	Node    string
	Port    int           // of the API on every node, TCP
	Epoch   time.Duration // for protections that ask for nothing else
	Cluster Cluster
	Agent   Agent
	Alive   func() map[string]string // state of each other node
}

// Handler has all routes.
func (s *Server) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/status", s.status)
	m.HandleFunc("GET /v1/events", s.events)
	m.HandleFunc("GET /v1/check", s.check)
	m.HandleFunc("POST /v1/protections", s.onLeader(s.protect))
	m.HandleFunc("DELETE /v1/protections/{domain}", s.onLeader(s.unprotect))
	m.HandleFunc("POST /v1/protections/{domain}/failover", s.onLeader(s.failover))
	m.HandleFunc("POST /v1/propose", s.onLeader(s.propose))
	m.HandleFunc("GET /v1/agent/domains/{name}", s.agentDomain)
	m.HandleFunc("POST /v1/agent/backup-check", s.backupCheck)
	m.HandleFunc("GET /v1/agent/stats", s.agentStats)
	return m
}

// handler does a request's work; in is its body.
type handler func(r *http.Request, in json.RawMessage) (any, error)

// leaderWait bounds how long a request waits for a leader to be elected.
const leaderWait = 5 * time.Second

// onLeader runs h on the leader: here, or by sending the request there.
func (s *Server) onLeader(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in json.RawMessage
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
			reply(w, nil, fail("bad-request", "", "the request is not JSON: %v", err))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), leaderWait)
		defer cancel()
		for !s.Cluster.IsLeader() {
			_, addr := s.Cluster.Leader()
			if addr != "" && r.Header.Get(forwarded) == "" {
				var out json.RawMessage
				err := s.peer(addr).do(r.Context(), r.Method, r.URL.RequestURI(), in, &out, true)
				var e *Error
				if !errors.As(err, &e) || e.Code != "unreachable" {
					reply(w, out, err)
					return
				}
			}
			select {
			case <-ctx.Done():
				reply(w, nil, fail("unreachable", "a majority of the managers must run and reach each other; see hamgr node list", "no manager leads"))
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		out, err := h(r, in)
		reply(w, out, err)
	}
}

func (s *Server) peer(addr string) *Client {
	return NewClient("http://" + net.JoinHostPort(addr, fmt.Sprint(s.Port)))
}

func reply(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := asError(err)
		w.WriteHeader(codes[e.Code].HTTP)
		json.NewEncoder(w).Encode(map[string]*Error{"error": e})
		return
	}
	if out == nil {
		out = struct{}{}
	}
	json.NewEncoder(w).Encode(out)
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && codes[e.Code].HTTP != 0 {
		return e
	}
	for code, sentinel := range refusals {
		if errors.Is(err, sentinel) {
			return fail(code, "", "%v", err)
		}
	}
	if errors.Is(err, domain.ErrNoDomain) {
		return fail("not-found", "", "%v", err)
	}
	return fail("failed", "", "%v", err)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st := s.Cluster.State()
	leader, _ := s.Cluster.Leader()
	out := Status{Node: s.Node, Leader: leader, Index: st.Index, Nodes: []NodeStatus{}, Protections: []ProtectionStatus{}}
	alive := s.Alive()
	for _, name := range slices.Sorted(maps.Keys(st.Nodes)) {
		n := NodeStatus{Node: st.Nodes[name], State: alive[name]}
		if name == s.Node {
			n.State = "alive"
		}
		out.Nodes = append(out.Nodes, n)
	}
	stats := s.gatherStats(r.Context(), st)
	for _, name := range slices.Sorted(maps.Keys(st.Protections)) {
		p := ProtectionStatus{Protection: st.Protections[name]}
		if x, ok := stats[p.Primary][name]; ok {
			p.Stats = &x
		}
		out.Protections = append(out.Protections, p)
	}
	reply(w, out, nil)
}

// gatherStats asks the primaries; one that does not answer in time is left out.
func (s *Server) gatherStats(ctx context.Context, st core.State) map[string]map[string]agent.Stats {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]map[string]agent.Stats{s.Node: s.Agent.Stats()}
	asked := map[string]bool{s.Node: true}
	for _, p := range st.Protections {
		if asked[p.Primary] {
			continue
		}
		asked[p.Primary] = true
		wg.Go(func() {
			var got map[string]agent.Stats
			if s.peer(st.Nodes[p.Primary].Addr).Do(ctx, "GET", "/v1/agent/stats", nil, &got) == nil {
				mu.Lock()
				defer mu.Unlock()
				out[p.Primary] = got
			}
		})
	}
	wg.Wait()
	return out
}

func (s *Server) events(w http.ResponseWriter, _ *http.Request) {
	ev := s.Cluster.State().Events
	if ev == nil {
		ev = []core.Event{}
	}
	reply(w, ev, nil)
}

func (s *Server) check(w http.ResponseWriter, r *http.Request) {
	reply(w, s.Agent.Check(r.Context()), nil)
}

func (s *Server) agentStats(w http.ResponseWriter, _ *http.Request) { reply(w, s.Agent.Stats(), nil) }

func (s *Server) agentDomain(w http.ResponseWriter, r *http.Request) {
	out, err := s.Agent.Domain(r.Context(), r.PathValue("name"))
	reply(w, out, err)
}

func (s *Server) backupCheck(w http.ResponseWriter, r *http.Request) {
	var in agent.BackupRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		reply(w, nil, fail("bad-request", "", "%v", err))
		return
	}
	if err := s.Agent.BackupCheck(r.Context(), in); err != nil {
		reply(w, nil, fail("refused", "", "%v", err))
		return
	}
	reply(w, nil, nil)
}

func (s *Server) propose(r *http.Request, in json.RawMessage) (any, error) {
	var c core.Command
	if err := json.Unmarshal(in, &c); err != nil {
		return nil, fail("bad-request", "", "%v", err)
	}
	return nil, s.Cluster.Propose(r.Context(), c)
}
