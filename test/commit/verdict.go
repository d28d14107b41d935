package commit

import (
	"fmt"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
)

// early is the verdict on a frame that left before it might.
func (c *checker) early(host string, o *output, e early) {
	kind, why := Leak, "its epoch has not ended"
	if b := e.cause.boundary; b >= 0 {
		end := o.boundaries[b]
		why = fmt.Sprintf("epoch %d of generation %d was never committed", end.epoch, end.generation)
		if !end.commit.IsZero() {
			why = fmt.Sprintf("epoch %d of generation %d was committed %v later", end.epoch, end.generation, end.commit.Sub(e.Time))
		}
	}
	if e.cause.state == foreign {
		kind, why = NotOwner, "the cluster had given the guest to another host"
	}
	c.report.violation(kind, host, e.Time, "%s; emitted %v before; %s", &e.packet, e.Time.Sub(e.cause.Time), why)
}

// strange is a frame of the guest's that the guest has not emitted.
func (c *checker) strange(host string, p packet) {
	c.report.violation(Strange, host, p.Time, "%s; the guest has not sent this", &p)
}

// announcing is for how long after a restore hamgr may announce the guest.
const announcing = 5 * time.Second

func (c *checker) restoredAt(host string, by time.Time) bool {
	return slices.ContainsFunc(c.timeline.events, func(e trace.Event) bool {
		return e.Kind == trace.Restored && e.Node == host && !e.Time.After(by) && by.Sub(e.Time) < announcing
	})
}

// order: what a NIC sent in one epoch is not outside before what it sent in an earlier one.
func (c *checker) order(m matched) {
	newest := map[string]*sighting{} // by NIC
	emitted := slices.Clone(m.emitted)
	slices.SortStableFunc(emitted, func(a, b *sighting) int { return a.seen.Compare(b.seen) })
	for _, s := range emitted {
		if s.seen.IsZero() || s.boundary < 0 || s.state != held || s.alike {
			continue
		}
		n := newest[s.src]
		if n == nil || s.boundary >= n.boundary {
			newest[s.src] = s
			continue
		}
		if s.seen.After(n.seen) {
			c.report.violation(Reordered, s.Host, s.seen, "%s; emitted %v before %s, which left first", &s.packet, n.Time.Sub(s.Time), &n.packet)
		}
	}
}

// emission: a committed frame goes out with its epoch, not later, and not never.
func (c *checker) emission(o *output, s *sighting) {
	if s.accused || s.state != held || s.boundary < 0 || c.faulty(s) {
		return
	}
	b := o.boundaries[s.boundary]
	if b.commit.IsZero() || b.generation != s.generation { // held by a session that has failed since
		return
	}
	next, after := o.commitAfter(s.boundary, 1), o.commitAfter(s.boundary, 2)
	switch {
	case s.seen.IsZero() && !after.IsZero() && after.Add(slack).Before(c.end()) && c.leaves(s.packet):
		c.report.violation(Missing, s.Host, after.Add(slack), "%s; emitted %v before, committed with epoch %d of generation %d, and never seen outside", &s.packet, after.Add(slack).Sub(s.Time), b.epoch, b.generation)
	case !s.seen.IsZero() && !next.IsZero() && s.seen.After(next.Add(slack)):
		c.report.violation(Late, s.Host, s.seen, "%s; committed with epoch %d of generation %d %v before, and newer epochs since", &s.packet, b.epoch, b.generation, s.seen.Sub(b.commit))
	}
}

// end is that of the capture. The traces may go on.
func (c *checker) end() time.Time { return c.packets[len(c.packets)-1].Time }

// commitAfter is the commit of the n-th boundary after i, in the same generation.
func (o *output) commitAfter(i, n int) time.Time {
	if i+n >= len(o.boundaries) || o.boundaries[i+n].generation != o.boundaries[i].generation {
		return time.Time{}
	}
	return o.boundaries[i+n].commit
}

// leaves says that a frame had to leave the host: it is for all, or for somebody who is
// on the network.
func (c *checker) leaves(p packet) bool {
	return p.broadcast || slices.ContainsFunc(c.packets, func(q packet) bool {
		return q.Device == "" && q.src == p.dst && q.Host != p.Host
	})
}

// faulty says that the network was down between emission and the slack after release.
func (c *checker) faulty(s *sighting) bool {
	return slices.ContainsFunc(c.Faults, func(f Fault) bool {
		return f.What == LinkDown && f.Host == s.Host && f.From.Before(s.right.from.Add(slack)) && s.Time.Before(f.Until)
	})
}
