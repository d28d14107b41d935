package cluster

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// waits until a host says that it waits for what contains text.
func (l *lab) waits(name, text string) {
	l.Helper()
	l.until(name+" waits: "+text, func() bool {
		err := l.hosts[name].waiting()
		return err != nil && strings.Contains(err.Error(), text)
	})
}

// TestNewClusterWaitsForAll: two of three could decide, and one that is not there yet could
// know of a cluster.
func TestNewClusterWaitsForAll(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h4")
	l.waits("h1", "h3 does not answer")
	l.waits("h2", "h3 does not answer")
	l.waits("h4", "h1 waits itself")
	for name, c := range l.hosts {
		if at := c.Standing(); at.Last != 0 {
			t.Errorf("%s has begun: %+v", name, at)
		}
	}
	l.start("h3")
	l.register("h1", "h2", "h3", "h4")
	l.sees("h4", "the managers", managed("h1", "h2", "h3"))
}

// TestConfigurationsDiffer: they would begin two clusters.
func TestConfigurationsDiffer(t *testing.T) {
	l := newLab(t, func(c *Config) {
		if c.Node == "h3" {
			c.Managers = maps.Clone(c.Managers)
			delete(c.Managers, "h1")
			c.Managers["h4"] = address("h4")
		}
	})
	l.start("h1", "h2", "h3")
	l.waits("h1", "h3 is configured with the managers")
	for name, c := range l.hosts {
		if at := c.Standing(); at.Last != 0 {
			t.Errorf("%s has begun: %+v", name, at)
		}
	}
}

// TestWipedManager: it comes back as an ordinary node. Until the others have agreed on that
// it takes part in nothing; it begins no second cluster, and its vote counts no more.
func TestWipedManager(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	l.handOver("h3")
	l.stop("h3")
	l.wipe("h3")
	l.start("h3")
	l.register("h3")
	l.sees("h3", "the others' state", has("g1", core.Syncing, 1))
	l.sees("h3", "that it is no manager", managed("h1", "h2"))
	l.told("manager-removed h3")
	l.until("h3 claims no term", func() bool { return l.hosts["h3"].Voter().Term == 0 })
	l.add("h3")
	l.sees("h3", "that it is one again", managed("h1", "h2", "h3"))
	l.until("h3 claims its term", func() bool { return l.hosts["h3"].Voter().Term > 0 })
}

// TestTwoWipedManagers: what the third knows cannot be told from what the others had
// acknowledged beside, so they wait. A majority without its logs decides nothing.
func TestTwoWipedManagers(t *testing.T) {
	l := newLab(t, func(c *Config) { c.RPC = 200 * time.Millisecond })
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	l.protect("g1", "h1", "h2")
	l.sees("h3", "g1", has("g1", core.Syncing, 1))
	l.stop("h1")
	l.stop("h2")
	l.wipe("h1")
	l.wipe("h2")
	l.stop("h3")
	l.start("h1", "h2")
	l.waits("h1", "h3 does not answer")
	l.waits("h2", "h3 does not answer")
	l.start("h3")
	l.waits("h1", "by way of h3, which knows of a cluster")
	for name, c := range l.hosts {
		if c.IsLeader() || name != "h3" && c.Standing().Last != 0 {
			t.Errorf("%s takes part: %+v", name, c.Standing())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := l.hosts["h1"].Register(ctx, l.forward); !errors.Is(err, ErrNotLeader) || !strings.Contains(err.Error(), "by way of h3") {
		t.Errorf("registered: %v", err)
	}
}

// TestBlankIsNoOtherHost: a new host under a manager's name does not cost it its vote.
func TestBlankIsNoOtherHost(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3")
	_, c := l.leader()
	l.until("it leads for good", func() bool { return c.raft.Barrier(enqueueTimeout).Error() == nil })
	n := core.Node{Name: "h2", ID: "another", Addr: "127.0.20.9"}
	if err := c.Blank(t.Context(), n); !errors.Is(err, core.ErrNodeNameTaken) {
		t.Errorf("before h2 has registered: %v", err)
	}
	l.register("h2")
	if err := c.Blank(t.Context(), n); !errors.Is(err, core.ErrNodeNameTaken) {
		t.Errorf("after: %v", err)
	}
	if got := c.machine.state.Load().Voters(); len(got) != 3 {
		t.Errorf("managers: %v", got)
	}
}
