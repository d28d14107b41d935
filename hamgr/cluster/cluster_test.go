package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

func TestAgreement(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	if s := l.hosts["h1"].State(); s.Index != 0 {
		t.Fatalf("a state before registration: %+v", s)
	}
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	for name := range l.hosts {
		l.sees(name, "g1", has("g1", core.Syncing, 1))
	}
	leader, _ := l.leader()
	for name, c := range l.hosts {
		if name == leader {
			continue
		}
		err := c.Propose(t.Context(), core.Command{Kind: core.Synced, Domain: "g1", Generation: 1})
		var not *NotLeaderError
		if !errors.Is(err, ErrNotLeader) || !errors.As(err, &not) || not.Name != leader || not.Addr != address(leader) {
			t.Fatalf("a follower's answer: %v", err)
		}
	}
	if err := l.propose(core.Command{Kind: core.Synced, Domain: "nobody"}); !errors.Is(err, core.ErrUnknownDomain) {
		t.Fatalf("the core's refusal: %v", err)
	}
}

// Followers see a commit right behind the leader, not after the next commit timeout.
func TestFollowersLearnAtOnce(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Commit = 5 * time.Second })
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	start := time.Now()
	l.protect("g1", "h1", "h2")
	for name := range l.hosts {
		l.sees(name, "g1", has("g1", core.Syncing, 1))
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Fatalf("took %v", took)
	} else {
		t.Logf("everybody knew after %v", took)
	}
}

func TestLeaderLoss(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	for name := range l.hosts {
		l.sees(name, "g1", has("g1", core.Syncing, 1))
	}
	told := make(chan string, 100)
	for name, c := range l.hosts {
		c.OnEvent(func(e core.Event) { told <- fmt.Sprintf("%s %s", name, e.Kind) })
	}
	old, c := l.leader()
	l.stop(old)
	if err := c.Propose(t.Context(), core.Command{Kind: core.Synced}); err == nil {
		t.Fatal("a closed node took a command")
	}
	if err := c.Close(); err != nil {
		t.Fatalf("closed twice: %v", err)
	}
	start := time.Now()
	next, _ := l.leader()
	t.Logf("%s leads %v after %s closed", next, time.Since(start), old)
	l.must(core.Command{Kind: core.Synced, Domain: "g1", Generation: 1})
	for name := range l.hosts {
		l.sees(name, "the commit", has("g1", core.Protected, 1))
	}
	select {
	case got := <-told:
		if leader, _ := l.leader(); got != leader+" protected" {
			t.Fatalf("told: %s, leader %s", got, leader)
		}
	case <-time.After(patience):
		t.Fatal("no event")
	}
	// The old leader comes back as a follower and catches up.
	l.start(old)
	l.register(old)
	l.sees(old, "what it missed", has("g1", core.Protected, 1))
}

// Failover and solo race on each generation; exactly one of the two wins.
func TestOneWinner(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	wins := map[core.Kind]int{}
	for range 15 {
		p := l.settled().Protections["g1"]
		l.must(core.Command{Kind: core.Synced, Domain: "g1", Generation: p.Generation})
		kinds := []core.Kind{core.FailOver, core.GoSolo}
		errs := make([]error, len(kinds))
		var wg sync.WaitGroup
		for i, kind := range kinds {
			wg.Go(func() {
				errs[i] = l.propose(core.Command{Kind: kind, Domain: "g1", Generation: p.Generation, Backup: p.Backup})
			})
		}
		wg.Wait()
		now := l.settled().Protections["g1"]
		winner := 1
		if now.Primary != p.Primary {
			winner = 0
		}
		// The state knows who has won; he may not, if the leader changed.
		if err := errs[winner]; err != nil && !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(errs[1-winner], core.ErrStaleGeneration) {
			t.Fatalf("%s won; failover: %v; solo: %v", kinds[winner], errs[0], errs[1])
		}
		wins[kinds[winner]]++
		if now.Generation != p.Generation+1 {
			t.Fatalf("after %s: %+v", kinds[winner], now)
		}
		if winner == 0 {
			l.must(core.Command{Kind: core.Restored, Domain: "g1", Generation: now.Generation})
		}
		backup := map[string]string{"h1": "h2", "h2": "h1"}[now.Primary]
		l.must(core.Command{Kind: core.Assign, Domain: "g1", Generation: now.Generation, Backup: backup})
	}
	t.Logf("wins: %v", wins)
}

// Everybody restarts from disk; the state comes back, through snapshots and the log, and
// the old events are not told again.
func TestRestartFromDisk(t *testing.T) {
	l := newLab(t, func(c *Config) { c.SnapshotEvery, c.SnapshotInterval = 10, 20*time.Millisecond })
	names := []string{"h1", "h2", "h3"}
	l.start(names...)
	l.register(names...)
	for i := range 25 {
		l.protect(fmt.Sprint("g", i), "h1", "h2")
	}
	l.must(core.Command{Kind: core.Unprotect, Domain: "g7"})
	_, leader := l.leader()
	want := describe(leader.State())
	l.awaitSnapshot()
	for _, n := range names {
		l.stop(n)
	}
	told := make(chan core.Event, 1000)
	l.start(names...)
	for _, n := range names {
		l.hosts[n].OnEvent(func(e core.Event) { told <- e })
		if s := l.hosts[n].State(); s.Index != 0 {
			t.Fatalf("%s shows a state out of its old log: %+v", n, s)
		}
	}
	l.register(names...)
	for _, n := range names {
		l.sees(n, "the old state", func(s core.State) bool { return describe(s) == want })
	}
	l.must(core.Command{Kind: core.Unprotect, Domain: "g1", Generation: 1})
	for e := (core.Event{}); e.Kind != core.Unprotect || e.Domain != "g1"; {
		select {
		case e = <-told:
			if e.Kind == core.Protect {
				t.Fatalf("told again: %+v", e)
			}
		case <-time.After(patience):
			t.Fatal("the new event was not told")
		}
	}
}

// A worker that joins late is added as a follower and starts from a snapshot: the log of
// before is gone.
func TestWorkerJoinsFromSnapshot(t *testing.T) {
	l := newLab(t, func(c *Config) { c.SnapshotEvery, c.SnapshotInterval = 10, 20*time.Millisecond })
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	for i := range 25 {
		l.protect(fmt.Sprint("g", i), "h1", "h2")
	}
	l.awaitSnapshot()
	l.start("h4")
	l.register("h4")
	l.sees("h4", "everything", func(s core.State) bool { return len(s.Protections) == 25 })
	leader, c := l.leader()
	for _, s := range c.raft.GetConfiguration().Configuration().Servers {
		if (s.Suffrage == raft.Voter) != (s.ID != "h4") {
			t.Fatalf("%s is %s", s.ID, s.Suffrage)
		}
	}
	if name, addr := l.hosts["h4"].Leader(); name != leader || addr != address(leader) {
		t.Fatalf("h4 takes %q at %q for the leader, it is %s", name, addr, leader)
	}
}

func (l *lab) awaitSnapshot() {
	l.Helper()
	_, c := l.leader()
	l.until("a snapshot", func() bool { return c.raft.Stats()["last_snapshot_index"] != "0" })
}

func TestRegisterRefusesATakenName(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.must(core.Command{Kind: core.RegisterNode, Node: &core.Node{Name: "h4", ID: "another host's", Addr: "127.0.20.99"}})
	l.start("h4")
	if err := l.hosts["h4"].Register(t.Context(), l.forward); !errors.Is(err, core.ErrNodeNameTaken) {
		t.Fatalf("registered over another host: %v", err)
	}
}

func TestWithoutMajority(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := l.hosts["h1"].Register(ctx, l.forward)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNotLeader) {
		t.Fatalf("registered with nobody: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1")
	if _, err := Open(l.config("h1")); !errors.Is(err, ErrDirInUse) {
		t.Fatalf("the same directory twice: %v", err)
	}
	busy := l.config("h1")
	busy.Dir = t.TempDir()
	if _, err := Open(busy); err == nil {
		t.Fatal("the same port twice")
	}
	if _, err := Open(busy); err == nil || errors.Is(err, ErrDirInUse) {
		t.Fatalf("a failed start keeps its directory: %v", err)
	}
	for _, cfg := range []Config{
		{},
		{Node: "h1", ID: "i", Addr: "127.0.20.1", Dir: t.TempDir()},
		{Node: "h1", ID: "i", Addr: "127.0.20.1", Dir: t.TempDir(), Managers: map[string]string{"h1": "127.0.20.2"}},
		{Node: "h4", ID: "i", Addr: "127.0.20.4", Dir: t.TempDir(), Managers: map[string]string{"h1": "127.0.20.1"}},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

// unanswered is a future that Raft has forgotten, until it is closed.
type unanswered chan struct{}

func (u unanswered) Error() error { <-u; return nil }

// TestNoAnswerAtTheEnd: what Raft does not answer when it ends keeps nobody from ending.
func TestNoAnswerAtTheEnd(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	name, c := l.leader()
	f, ended := make(unanswered), make(chan error, 1)
	defer close(f)
	if !c.spawn(func() { ended <- c.answer(f) }) {
		t.Fatal("too late")
	}
	l.stop(name)
	if err := <-ended; !errors.Is(err, raft.ErrRaftShutdown) {
		t.Fatal(err)
	}
}
