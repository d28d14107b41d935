package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

// changes has the leader change the managers, and tries again through elections.
func (l *lab) changes(what string, change func(ctx context.Context, leader *Cluster) error) {
	l.Helper()
	l.until(what, func() bool {
		_, c := l.leader()
		ctx, cancel := context.WithTimeout(l.Context(), patience)
		defer cancel()
		err := change(ctx, c)
		if err != nil && !errors.Is(err, ErrNotLeader) {
			l.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

func (l *lab) add(name string) {
	l.Helper()
	l.changes("add "+name, func(ctx context.Context, c *Cluster) error { return c.AddManager(ctx, name, "asked") })
}

func (l *lab) remove(name string) {
	l.Helper()
	l.changes("remove "+name, func(ctx context.Context, c *Cluster) error { return c.RemoveManager(ctx, name, "asked") })
}

// TestManagerIsReplaced: the new manager counts and the old one does not, on every node and
// after a restart of all, whatever their configuration says.
func TestManagerIsReplaced(t *testing.T) {
	l := newLab(t, nil)
	all := []string{"h1", "h2", "h3", "h4"}
	l.start(all...)
	l.register(all...)
	l.protect("g1", "h2", "h4")
	for _, h := range all {
		l.sees(h, "the first managers", managed("h1", "h2", "h3"))
	}
	l.add("h4")
	l.handOver("h1")
	l.remove("h1")
	for _, h := range all {
		l.sees(h, "the new managers", managed("h2", "h3", "h4"))
	}
	_, c := l.leader()
	for _, s := range c.raft.GetConfiguration().Configuration().Servers {
		if (s.Suffrage == raft.Voter) == (s.ID == "h1") {
			t.Errorf("%s is %s", s.ID, s.Suffrage)
		}
	}
	l.told("manager-added h4", "manager-removed h1")
	l.until("h1 claims no term, and h4 does", func() bool { return l.hosts["h1"].Voter().Term == 0 && l.hosts["h4"].Voter().Term > 0 })
	for _, h := range all {
		l.stop(h)
	}
	l.start("h1", "h3", "h4") // h2, of the majority of before, is gone
	l.register("h1", "h3", "h4")
	l.sees("h1", "who the managers are", managed("h2", "h3", "h4"))
	l.must(core.Command{Kind: core.GoSolo, Domain: "g1", Generation: 1})
	l.sees("h1", "what they agree on", has("g1", core.Solo, 2))
	if name, _ := l.leader(); name == "h1" {
		t.Error("h1 leads, and is no manager")
	}
	if addr := l.hosts["h1"].Known()["h4"]; addr != address("h4") {
		t.Errorf("h1 has forgotten where h4 is: %q", addr)
	}
	l.tune = func(c *Config) { c.Managers = map[string]string{"h1": address("h1"), "h2": address("h2")} }
	l.start("h5") // of those whom it can ask, h1 alone answers, which is no manager
	l.register("h5")
	l.sees("h5", "who the managers are", managed("h2", "h3", "h4"))
	l.stop("h4")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := l.hosts["h3"].Propose(ctx, core.Command{Kind: core.Unprotect, Domain: "g1"}); err == nil {
		t.Error("one of three managers agreed with a former one")
	}
}

// handOver has another than name lead.
func (l *lab) handOver(name string) {
	l.Helper()
	if leader, c := l.leader(); leader == name {
		if err := c.HandOver(l.Context(), "h2"); err != nil {
			l.Fatal(err)
		}
	}
	l.until("another leads", func() bool { leader, _ := l.leader(); return leader != name })
}

// told says that there are such events, in this order.
func (l *lab) told(want ...string) {
	l.Helper()
	_, c := l.leader()
	var got []string
	for _, e := range c.machine.state.Load().Events {
		if e.Kind == core.ManagerAdded || e.Kind == core.ManagerRemoved {
			got = append(got, string(e.Kind)+" "+e.Node)
		}
	}
	if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
		l.Fatalf("events %v, want %v", got, want)
	}
}

func TestHandOver(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	name, c := l.leader()
	to := map[string]string{"h1": "h2", "h2": "h3", "h3": "h1"}[name]
	if err := c.HandOver(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	l.until(to+" leads", l.hosts[to].IsLeader)
	if err := c.AddManager(t.Context(), "h1", ""); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower changes the managers: %v", err)
	}
}

// TestChangesOneByOne: while a change cannot be decided, no other begins.
func TestChangesOneByOne(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Heartbeat, c.LeaderLease = 2*time.Second, 2*time.Second }) // to stop the others takes less
	l.start("h1", "h2", "h3", "h4")
	l.register("h1", "h2", "h3", "h4")
	name, c := l.leader()
	l.leads(c)
	c.changing.Store(true)
	if err := c.AddManager(t.Context(), "h4", ""); !errors.Is(err, ErrChanging) {
		t.Fatalf("two at once: %v", err)
	}
	c.changing.Store(false)
	for other := range l.hosts {
		if other != name {
			l.stop(other)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.AddManager(ctx, "h4", ""); err == nil {
		t.Fatal("decided by one of three")
	}
	l.until("it leads no more", func() bool { return !c.IsLeader() })
	l.until("the change is over", func() bool { return !c.changing.Load() })
}

// TestManagersChangeTheWait: whoever lapsed by the word of other managers has not (package
// lease, R4); and a grant tells of the change (R2).
func TestManagersChangeTheWait(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3", "h4")
	l.register("h1", "h2", "h3", "h4")
	_, c := l.leader()
	l.leads(c)
	later := time.Now().Add(time.Hour)
	if !c.lapsed(time.Minute, time.Second, later) {
		t.Fatal("not lapsed after an hour")
	}
	l.add("h4")
	if c.lapsed(time.Minute, time.Second, later) {
		t.Error("lapsed, though it has not noticed the change")
	}
	c.lead(later)
	if c.lapsed(time.Minute, time.Second, later) {
		t.Error("lapsed, though the managers have just changed")
	}
	if !c.lapsed(time.Minute, time.Second, later.Add(time.Second)) {
		t.Error("not lapsed a while after the change")
	}
	if v, s := c.Voter(), c.State(); v.Index != s.Managed || s.Managed == 0 {
		t.Errorf("the grant is of %d, the change of %d", v.Index, s.Managed)
	}
}
