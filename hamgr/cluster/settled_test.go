package cluster

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// TestStateOutlivesItsDisks: what the leader says is settled is in force again in a cluster
// of empty disks, through its log and its snapshots, and no number goes back.
func TestStateOutlivesItsDisks(t *testing.T) {
	l := newLab(t, func(c *Config) { c.SnapshotEvery, c.SnapshotInterval, c.Noted = 10, 20*time.Millisecond, 5 })
	names := []string{"h1", "h2", "h3"}
	l.start(names...)
	l.register(names...)
	l.protect("g1", "h1", "h2")
	leader, c := l.leader()
	before, err := c.Settled(t.Context())
	if p := before.Protections["g1"]; err != nil || p.Generation != 6 { // what hosts have noted counts
		t.Fatalf("%+v, %v", p, err)
	}
	for name, c := range l.hosts {
		if _, err := c.Settled(t.Context()); name != leader && !errors.Is(err, ErrNotLeader) {
			t.Fatalf("%s, which does not lead: %v", name, err)
		}
	}
	for _, name := range names {
		l.stop(name)
		if err := os.RemoveAll(l.config(name).Dir); err != nil {
			t.Fatal(err)
		}
	}
	l.start(names...)
	l.register(names...)
	_, c = l.leader()
	now, err := c.Settled(t.Context())
	if err != nil || len(now.Protections) > 0 {
		t.Fatalf("%+v, %v", now, err)
	}
	cmd, left := core.Recall(before, now, []core.Sighting{{Node: "h3", Domain: "g1", Running: true, Note: core.Note{UUID: "uuid-g1"}}})
	if len(left) > 0 {
		t.Fatal(left)
	}
	l.must(cmd)
	if err := l.propose(cmd); !errors.Is(err, core.ErrAlreadyProtected) && !errors.Is(err, core.ErrBadCommand) {
		t.Fatalf("twice: %v", err)
	}
	for i := range 20 { // more than a snapshot holds
		l.protect(fmt.Sprint("x", i), "h1", "h2")
	}
	for _, name := range names {
		l.stop(name)
	}
	l.start(names...)
	l.register(names...)
	for _, name := range names {
		l.sees(name, "g1 on h3", func(s core.State) bool {
			p := s.Protections["g1"]
			return p.Primary == "h3" && p.Generation == core.Era && s.Reinstated > 0 && s.Protections["x0"].Generation > core.Era
		})
	}
}

// TestNothingIsSettledAlone: a leader that has lost its majority does not vouch for its state.
func TestNothingIsSettledAlone(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	leader, c := l.leader()
	for _, name := range []string{"h1", "h2", "h3"} {
		if name != leader {
			l.stop(name)
		}
	}
	if s, err := c.Settled(t.Context()); err == nil {
		t.Fatalf("index %d is settled, says a leader without followers", s.Index)
	}
	l.stop(leader)
	if _, err := c.Settled(t.Context()); err == nil {
		t.Fatal("settled, says one that is closed")
	}
}
