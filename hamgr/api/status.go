package api

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	statsTimeout = 300 * time.Millisecond
	// eventsWait bounds a long poll.
	eventsWait = 30 * time.Second
)

func (s *Server) status(r *http.Request, _ json.RawMessage) (any, error) {
	st := s.Cluster.State()
	leader, _ := s.Cluster.Leader()
	out := Status{Node: s.Node, Leader: leader, Index: st.Index, Nodes: s.nodeList(st), Protections: []ProtectionStatus{}}
	stats := s.gatherStats(r.Context(), st)
	for _, name := range slices.Sorted(maps.Keys(st.Protections)) {
		p := ProtectionStatus{Protection: st.Protections[name]}
		if x, ok := stats[p.Primary][name]; ok {
			p.Stats = &x
		}
		out.Protections = append(out.Protections, p)
	}
	return out, nil
}

func (s *Server) nodes(*http.Request, json.RawMessage) (any, error) {
	return s.nodeList(s.Cluster.State()), nil
}

func (s *Server) nodeList(st core.State) []NodeStatus {
	leader, _ := s.Cluster.Leader()
	live := s.liveness()
	live[s.Node] = NodeLiveness{State: alive, LastHeard: time.Now()}
	out := []NodeStatus{}
	for _, name := range slices.Sorted(maps.Keys(st.Nodes)) {
		l := live[name]
		_, manager := st.Managers[name]
		n := NodeStatus{Node: st.Nodes[name], Manager: manager, State: l.State, Leader: name == leader, Suspicions: l.Suspicions}
		if n.State == "" {
			n.State = "unknown"
		}
		if !l.LastHeard.IsZero() {
			ms := max(0, time.Since(l.LastHeard).Milliseconds())
			n.LastHeardMS = &ms
		}
		out = append(out, n)
	}
	return out
}

// gatherStats asks the primaries; one that is not alive or does not answer in time is
// left out.
func (s *Server) gatherStats(ctx context.Context, st core.State) map[string]map[string]Stats {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	live := s.liveness()
	hosts := map[string]bool{}
	for _, p := range st.Protections {
		hosts[p.Primary] = p.Primary != s.Node && live[p.Primary].reachable()
	}
	maps.DeleteFunc(hosts, func(_ string, ask bool) bool { return !ask })
	var mu sync.Mutex
	out := map[string]map[string]Stats{s.Node: s.Agent.Stats()}
	gather(slices.Collect(maps.Keys(hosts)), func(host string) {
		var got map[string]Stats
		if s.peer(st.Nodes[host].Addr).Do(ctx, http.MethodGet, "/v1/agent/stats", nil, &got) == nil {
			mu.Lock()
			defer mu.Unlock()
			out[host] = got
		}
	})
	return out
}

// events answers with the events after since; with wait, not before there is one.
func (s *Server) events(r *http.Request, _ json.RawMessage) (any, error) {
	since, wait, err := eventsQuery(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	changed, stop := s.Cluster.Watch()
	defer stop()
	for {
		if list := after(s.Cluster.State().Events, since); len(list) > 0 || ctx.Err() != nil {
			return list, nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func eventsQuery(r *http.Request) (since uint64, wait time.Duration, err error) {
	q := r.URL.Query()
	if text := q.Get("since"); text != "" {
		if since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, 0, Failure(CodeBadRequest, "", "since=%s is not the index of an event", text)
		}
	}
	if text := q.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil {
			return 0, 0, Failure(CodeBadRequest, "", "wait=%s is not a time such as 10s", text)
		}
	} else if q.Has("wait") {
		wait = eventsWait
	}
	return since, min(wait, eventsWait), nil
}

func after(list []core.Event, since uint64) []core.Event {
	out := []core.Event{}
	for _, e := range list {
		if e.Index > since {
			out = append(out, e)
		}
	}
	return out
}
