package commit

import (
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// restores: nothing that was seen may be of a later epoch than the one that was restored.
func (c *checker) restores() {
	for _, e := range c.timeline.events {
		if e.Kind != trace.Restored || e.Time.Before(c.From) {
			continue
		}
		c.report.Restores++
		for host, o := range c.timeline.hosts {
			if i := o.find(e); i >= 0 {
				c.restored(e, host, i)
			}
		}
	}
}

// find is the index of the boundary of an event's epoch; -1: it was not on this host.
func (o *output) find(e trace.Event) int {
	return slices.IndexFunc(o.boundaries, func(b boundary) bool { return b.generation == e.Generation && b.epoch == e.Epoch })
}

// restored compares what left a host with the checkpoint taken at its i-th boundary, from
// which the guest went on elsewhere.
func (c *checker) restored(e trace.Event, host string, i int) {
	b := c.timeline.hosts[host].boundaries[i]
	for _, s := range c.matched[host].emitted {
		switch {
		case s.seen.IsZero() || s.accused || s.instance != b.instance || !s.Time.After(b.at):
		case c.timeline.holds(e.Generation):
			c.report.violation(NotRestored, host, e.Time, "%s; emitted %v after the end of epoch %d of generation %d, from which %s was restored on %s",
				&s.packet, s.Time.Sub(b.at), b.epoch, b.generation, c.Domain, e.Node)
		default:
			c.report.RolledBackFrames++
		}
	}
}

// holds says whether output was to be held in a generation, by the last word on it.
func (t *timeline) holds(generation uint64) bool {
	mode := string(core.Buffer)
	for _, o := range t.orders {
		if o.Generation == generation && o.Mode != "" {
			mode = o.Mode
		}
	}
	return mode == string(core.Buffer)
}

// mayRollBack says that the last failover before an instant was of a guest whose output
// was not held: it may contradict what was seen before. The guest runs a little earlier
// than its node can say so; the order comes first.
func (t *timeline) mayRollBack(at time.Time) bool {
	may := false
	for _, o := range t.orders {
		if o.Phase == string(core.Recovering) && o.Time.Before(at) {
			may = !t.holds(o.Generation - 1)
		}
	}
	return may
}
