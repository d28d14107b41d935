package cluster

import (
	"testing"

	"github.com/hamgr/hamgr/hamgr/core"
)

// TestStaysRegistered: what an earlier process of a node said last reaches the leader after
// its successor has registered. The successor goes on with what it knows, and says again
// that it is the one.
func TestStaysRegistered(t *testing.T) {
	l := newLab(t, nil)
	l.start("h1", "h2", "h3", "h4")
	l.register("h1", "h2", "h3", "h4")
	for _, name := range []string{"h4", "h1"} { // one that is no manager, and one that is
		c := l.hosts[name]
		earlier := c.node()
		earlier.Boot, earlier.Started = "earlier", c.cfg.Started-1
		l.must(core.Command{Kind: core.RegisterNode, Node: &earlier})
		if c.State().Index == 0 {
			t.Fatalf("%s has lost sight of the state", name)
		}
		_, leader := l.leader()
		l.until(name+" is itself again", func() bool { return leader.State().Nodes[name] == c.node() })
	}
}
