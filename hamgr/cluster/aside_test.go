package cluster

import (
	"testing"
	"time"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestAside: a leader whose host runs a protected guest lets another lead that runs none,
// after a while, and not one that is silent, drained or runs one itself.
func TestAside(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	old, leader := l.leader()
	var others []string
	for _, n := range []string{"h1", "h2", "h3"} {
		if n != old {
			others = append(others, n)
		}
	}
	s := newSight("h1", "h2", "h3")
	var a aside
	now := time.Now()
	after := func(d time.Duration) { t.Helper(); now = now.Add(d); a.look(t.Context(), leader, s, now) }
	stays := func(why string) {
		t.Helper()
		after(0)
		after(2 * asideAfter)
		if !leader.IsLeader() {
			t.Fatalf("%s: it leads no more", why)
		}
	}
	stays("no guest here")
	l.protect("web1", old, others[0])
	s.status[others[0]] = detector.PeerStatus{State: detector.Silent}
	l.must(core.Command{Kind: core.Drain, Node: &core.Node{Name: others[1]}})
	stays("one is silent, one is drained")
	l.must(core.Command{Kind: core.Undrain, Node: &core.Node{Name: others[1]}})
	l.protect("web2", others[1], old)
	stays("one is silent, one runs a guest")
	s.status[others[0]] = detector.PeerStatus{State: detector.Alive, Started: 1}
	after(0)
	after(asideAfter / 2)
	if !leader.IsLeader() {
		t.Fatal("at once")
	}
	after(asideAfter)
	l.until("another leads", func() bool { name, _ := l.hosts[others[0]].Leader(); return name == others[0] })
}
