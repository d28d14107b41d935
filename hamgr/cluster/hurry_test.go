package cluster

import (
	"testing"
	"time"
)

// TestHurry: managers that miss their leader elect another with a shorter timeout, and go
// back to the one they were told once they have it.
func TestHurry(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Heartbeat, c.LeaderLease = 3*steady, steady })
	l.start("h1", "h2", "h3")
	l.register("h1", "h2", "h3")
	old, leader := l.leader()
	s := newSight("h1", "h2", "h3")
	timeout := func(c *Cluster) time.Duration { return c.raft.ReloadableConfig().HeartbeatTimeout }
	var h hurry
	h.look(l.other(old), s, time.Now())
	if got := timeout(l.other(old)); got != leader.cfg.Heartbeat {
		t.Fatalf("in a hurry without cause: %v", got)
	}
	l.until("the follower knows its leader", func() bool { name, _ := l.other(old).Leader(); return name == old })
	l.stop(old)
	s.kill(old)
	h.look(l.other(old), s, time.Now())
	h.look(l.other(old), s, time.Now().Add(2*hurryPause))
	if got := timeout(l.other(old)); got != leader.cfg.LeaderLease {
		t.Fatalf("not in a hurry: %v", got)
	}
	l.lead(s)
	name, now := l.leader()
	if name == old {
		t.Fatalf("%s leads, and is dead", name)
	}
	for _, c := range l.hosts {
		l.until("the timeout is as before", func() bool {
			h.look(c, s, time.Now())
			return c == now || timeout(c) == c.cfg.Heartbeat
		})
	}
}

// other is any host but one.
func (l *lab) other(name string) *Cluster {
	for _, n := range []string{"h1", "h2", "h3"} {
		if n != name {
			return l.hosts[n]
		}
	}
	return nil
}
