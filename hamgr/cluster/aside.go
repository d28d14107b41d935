package cluster

import (
	"context"
	"time"

	"github.com/hamgr/hamgr/detector"
)

const (
	// asideAfter is for how long there has to be a better leader; a failover moves guests.
	asideAfter = 2 * time.Second
	// asidePause is the least time between two attempts.
	asidePause = 10 * time.Second
	// asideTimeout bounds one; nothing is decided meanwhile.
	asideTimeout = time.Second
)

// aside has a manager lead whose host runs no protected guest, where there is one: a host
// that dies with the leader on it makes its guests wait for an election first.
type aside struct {
	since time.Time // there is a better leader since; zero: there is none
	next  time.Time // not before
}

// look is for each round in which this node leads.
func (a *aside) look(ctx context.Context, c *Cluster, sight Sight, now time.Time) {
	to := c.better(sight)
	switch {
	case to == "":
		a.since = time.Time{}
		return
	case a.since.IsZero():
		a.since = now
	}
	if now.Sub(a.since) < asideAfter || now.Before(a.next) || c.changing.Load() {
		return
	}
	a.since, a.next = time.Time{}, now.Add(asidePause)
	ctx, cancel := context.WithTimeout(ctx, asideTimeout)
	defer cancel()
	if err := c.HandOver(ctx, to); err != nil {
		c.log.Warn("a host without protected guests was to lead", "err", err)
	}
}

// better is a manager that could lead in this one's place and runs no guest of the
// cluster's; empty: none, or this one runs none either.
func (c *Cluster) better(sight Sight) string {
	s := c.machine.state.Load()
	runs := map[string]int{}
	for _, p := range s.Protections {
		runs[p.Primary]++
	}
	if runs[c.cfg.Node] == 0 {
		return ""
	}
	status := sight.Status()
	for _, v := range s.Voters() {
		x := status[v]
		if v != c.cfg.Node && runs[v] == 0 && !s.Nodes[v].Drained && x.State == detector.Alive && x.Started != 0 && !x.Suspect {
			return v
		}
	}
	return ""
}
