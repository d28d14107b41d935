package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestGone: a replica is gone with its hamgr, whatever the cluster has heard of that.
func TestGone(t *testing.T) {
	alive := detector.PeerStatus{State: detector.Alive, Started: 7}
	refused, silent := alive, alive
	refused.Refused, silent.State = true, detector.Silent
	for _, c := range []struct {
		name    string
		started uint64
		seen    detector.PeerStatus
		want    bool
	}{
		{"the one that registered", 7, alive, false},
		{"another", 6, alive, true},
		{"another, that is not heard now", 6, silent, false},
		{"refused", 7, refused, true},
		{"of an older version", 0, alive, false},
		{"not heard yet", 7, detector.PeerStatus{State: detector.Alive}, false},
	} {
		if got := gone(core.Node{Started: c.started}, c.seen); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// sight is what the test wants the leaders to see.
type sight struct {
	mu       sync.Mutex
	status   map[string]detector.PeerStatus
	isolated bool
	changed  chan struct{}
}

func newSight(alive ...string) *sight {
	s := &sight{status: map[string]detector.PeerStatus{}, changed: make(chan struct{})}
	for _, n := range alive {
		s.status[n] = detector.PeerStatus{State: detector.Alive, Started: 1}
	}
	return s
}

func (s *sight) kill(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[node] = detector.PeerStatus{State: detector.Silent, Suspect: true}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sight) Suspected(peer string, _ []string) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status[peer].Suspect, peer + " is silent"
}

func (s *sight) Silence(peer string) time.Duration {
	if dead, _ := s.Suspected(peer, nil); dead {
		return time.Minute
	}
	return 0
}

func (s *sight) Unheard(peer string) time.Duration { return s.Silence(peer) }

func (s *sight) Status() map[string]detector.PeerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.status)
}

func (s *sight) SelfIsolated() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.isolated }

func (s *sight) Changed() <-chan struct{} { s.mu.Lock(); defer s.mu.Unlock(); return s.changed }

// lead runs RunLeader on every host until the test ends.
func (l *lab) lead(s Sight) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range l.hosts {
		wg.Go(func() { c.RunLeader(ctx, s, nil) })
	}
	l.Cleanup(func() { cancel(); wg.Wait() })
}

func TestLeaderActs(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3", "h4")
	l.register("h1", "h2", "h3", "h4")
	const domains = 10 // more than one round may move
	for i := range domains {
		g := fmt.Sprint("g", i)
		l.protect(g, "h4", "h1")
		l.must(core.Command{Kind: core.Synced, Domain: g, Generation: 1})
	}
	s := newSight("h1", "h2", "h3", "h4")
	l.lead(s)
	s.kill("h4")
	for i := range domains {
		l.sees("h1", "the failover", has(fmt.Sprint("g", i), core.Recovering, 2))
	}
	l.must(core.Command{Kind: core.Restored, Domain: "g0", Generation: 2})
	l.sees("h1", "a new backup", func(s core.State) bool {
		p := s.Protections["g0"]
		return p.Phase == core.Syncing && p.Primary == "h1" && p.Backup == "h2"
	})
	for _, e := range l.hosts["h1"].State().Events {
		if e.Kind == core.FailOver && (e.Node != "h4" || e.Target != "h1" || e.Cause != "h4 is silent") {
			t.Fatalf("event: %+v", e)
		}
	}
}

func TestIsolatedLeaderDoesNotAct(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	l.must(core.Command{Kind: core.Synced, Domain: "g1", Generation: 1})
	s := newSight()
	s.isolated = true
	s.kill("h1")
	_, leader := l.leader()
	ctx, cancel := context.WithTimeout(t.Context(), 10*decideInterval)
	defer cancel()
	leader.RunLeader(ctx, s, nil)
	if !has("g1", core.Protected, 1)(leader.State()) {
		t.Fatalf("acted: %+v", leader.State().Protections)
	}
}

func TestDueCapsARound(t *testing.T) {
	l := &leader{paused: map[string]time.Time{"g1": time.Now().Add(time.Hour), "g2": time.Now().Add(-time.Hour)}}
	var in []core.Command
	for i := range 30 {
		in = append(in, core.Command{Kind: core.FailOver, Domain: fmt.Sprint("g", i)}, core.Command{Kind: core.Assign, Domain: fmt.Sprint("x", i)})
	}
	count := map[core.Kind]int{}
	for _, c := range l.due(in, time.Now()) {
		if count[c.Kind]++; c.Domain == "g1" {
			t.Fatal("a paused domain")
		}
	}
	if count[core.FailOver] != failoversAtOnce || count[core.Assign] != othersAtOnce {
		t.Fatalf("%v", count)
	}
}
