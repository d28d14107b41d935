package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

// until polls for what has no event of its own.
func (l *lab) until(what string, ok func() bool) {
	l.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			l.Fatalf("never: %s", what)
		}
	}
}

// leads has this node notice its leadership, as RunLeader does, until it may grant.
func (l *lab) leads(c *Cluster) {
	l.Helper()
	l.until("the leader grants", func() bool { c.lead(time.Now()); return c.Voter().Leads })
}

func TestVoterGrantsWhileItLeads(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3", "h4")
	l.register("h1", "h2", "h3", "h4")
	l.protect("g1", "h4", "h1")
	l.must(core.Command{Kind: core.Synced, Domain: "g1", Generation: 1})
	l.must(core.Command{Kind: core.FailOver, Domain: "g1", Generation: 1})
	name, leader := l.leader()
	l.leads(leader)
	if v := leader.Voter(); v.Term == 0 || v.Index != leader.State().Moved || v.Index == 0 || len(v.Withheld) != 0 {
		t.Fatalf("leader: %+v", v)
	}
	for other, c := range l.hosts {
		if v := c.Voter(); other != name && (v.Leads || (v.Term == 0) != (other == "h4")) {
			t.Errorf("%s: %+v", other, v)
		}
	}
	if leader.lapsed(time.Minute, time.Hour, time.Now()) || leader.lapsed(0, time.Millisecond, time.Now().Add(time.Hour)) {
		t.Error("lapsed, though it leads for less than an hour, or has heard the node")
	}
	if !leader.lapsed(time.Minute, time.Millisecond, time.Now().Add(time.Hour)) {
		t.Error("not lapsed after a minute of silence")
	}
}

// TestUnknownOutcomeWithholds: a leader that was cut off in the middle of a failover does
// not know what has become of it.
func TestUnknownOutcomeWithholds(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Heartbeat, c.LeaderLease = 2*time.Second, 2*time.Second }) // to stop the others takes less
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	l.must(core.Command{Kind: core.Synced, Domain: "g1", Generation: 1})
	name, leader := l.leader()
	l.leads(leader)
	for other := range l.hosts {
		if other != name {
			l.stop(other)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := leader.Propose(ctx, core.Command{Kind: core.FailOver, Domain: "g1", Generation: 1})
	if !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("proposed to nobody: %v", err)
	}
	if v := leader.Voter(); v.Leads && !v.Withheld["h1"] {
		t.Fatalf("it may have been taken over, and is granted: %+v", v)
	}
	l.until("it leads no more", func() bool { return !leader.IsLeader() })
	if v := leader.Voter(); v.Leads {
		t.Fatalf("deposed: %+v", v)
	}
}

// TestNotTakenInWithholdsNothing: what a leader refuses while another is to lead has no
// effect later, and the host keeps its lease when it leads on.
func TestNotTakenInWithholdsNothing(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	l.must(core.Command{Kind: core.Synced, Domain: "g1", Generation: 1})
	_, leader := l.leader()
	l.leads(leader)
	for _, c := range []struct {
		err  error
		held bool
	}{
		{nil, false},
		{fmt.Errorf("propose: %w", leader.outcome(raft.ErrLeadershipTransferInProgress)), false},
		{fmt.Errorf("propose: %w", core.ErrStaleGeneration), false},
		{fmt.Errorf("propose: %w", leader.outcome(raft.ErrLeadershipLost)), true},
	} {
		settle := leader.withhold(core.Command{Kind: core.FailOver, Domain: "g1", Generation: 1})
		if v := leader.Voter(); !v.Withheld["h1"] {
			t.Fatalf("granted while it is under way: %+v", v)
		}
		if settle(c.err); leader.Voter().Withheld["h1"] != c.held {
			t.Errorf("%v: %+v", c.err, leader.Voter())
		}
	}
}

func TestCheckpointModeWaitsForTheLease(t *testing.T) {
	l := newLab(t, func(c *Config) { c.LeaseWait = time.Hour })
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	name, leader := l.leader()
	others := map[string][]string{"h1": {"h2", "h3"}, "h2": {"h1", "h3"}, "h3": {"h1", "h2"}}[name]
	l.protect("held", others[0], others[1])
	l.protect("open", others[0], others[1])
	l.must(core.Command{Kind: core.WantMode, Domain: "open", Generation: 1, Mode: core.Checkpoint})
	l.must(core.Command{Kind: core.SetMode, Domain: "open", Generation: 1, Mode: core.Checkpoint})
	for _, g := range []string{"held", "open"} {
		l.must(core.Command{Kind: core.Synced, Domain: g, Generation: 1})
	}
	s := newSight("h1", "h2", "h3")
	l.lead(s)
	s.kill(others[0])
	l.sees(name, "the failover of what is held", has("held", core.Recovering, 2))
	if !has("open", core.Protected, 1)(leader.State()) {
		t.Fatalf("taken over within its lease: %+v", leader.State().Protections["open"])
	}
}
