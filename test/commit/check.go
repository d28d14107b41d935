package commit

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
)

// Options say what is checked.
type Options struct {
	Domain string
	MACs   []string // of the guest's NICs
	Port   uint16   // of the ledger; 7000 if zero
	// From is when judging begins. What was seen before explains what follows; the first
	// seconds of a capture need that, as frames are held when it begins.
	From time.Time
	// Faults are times in which a host's link to the guests' network was down, so that
	// what left it did not arrive.
	Faults []Fault
	// Clocks is by how much the clocks of network, primary and backup may differ, after
	// what is known of that was corrected.
	Clocks time.Duration
	// Way is what a request may take from a client's port to QEMU's hands. 5 ms if zero.
	Way time.Duration
	// Grace is for how long after a failure clients may still go without an answer:
	// switches and neighbours have to learn. 1 s if zero.
	Grace time.Duration
}

// Fault is a time in which a host's frames were lost on the network.
type Fault struct {
	Host        string
	From, Until time.Time
}

const (
	defaultPort  = 7000
	defaultGrace = time.Second
	defaultWay   = 5 * time.Millisecond
	// slack is what a released frame may take from the buffer to the network on a busy
	// machine before it counts as late or lost.
	slack = 100 * time.Millisecond
)

// checker is one Check under way.
type checker struct {
	Options
	timeline *timeline
	packets  []packet // all, by time
	matched  map[string]matched
	report   *Report
}

// Check judges what was seen by what the nodes say they did.
func Check(frames []Frame, events []trace.Event, o Options) Report {
	o.Port, o.Grace, o.Way = cmp.Or(o.Port, defaultPort), cmp.Or(o.Grace, defaultGrace), cmp.Or(o.Way, defaultWay)
	c := checker{Options: o, timeline: newTimeline(o.Domain, events), matched: map[string]matched{}, report: &Report{from: o.From}}
	for _, f := range frames {
		c.packets = append(c.packets, dissect(f))
	}
	byTime(c.packets)
	for _, host := range c.hosts() {
		c.host(host)
	}
	c.silence()
	c.restores()
	c.ledger()
	c.report.finish(c.timeline)
	return *c.report
}

// silence is the longest time in which nothing of the guest was seen outside.
func (c *checker) silence() {
	var last time.Time
	for _, p := range c.packets {
		if p.Device != "" || !c.guests(p) || p.Time.Before(c.From) || p.kind == "RARP" {
			continue
		}
		if !last.IsZero() {
			c.report.Silence = max(c.report.Silence, ms(p.Time.Sub(last)))
		}
		last = p.Time
	}
}

// hosts are those with a trace, and those whose network port the guest was seen at.
func (c *checker) hosts() (names []string) {
	for h := range c.timeline.hosts {
		names = append(names, h)
	}
	for _, p := range c.packets {
		if c.guests(p) && !slices.Contains(names, p.Host) {
			names = append(names, p.Host)
		}
	}
	slices.Sort(names)
	return names
}

// guests says that a frame claims to come from the guest.
func (c *checker) guests(p packet) bool { return slices.Contains(c.MACs, p.src) }

// host judges all that left one host.
func (c *checker) host(name string) {
	var inside, outside []packet
	for _, p := range c.packets {
		switch {
		case p.Host != name || !c.guests(p):
		case p.Device != "":
			inside = append(inside, p)
		default:
			outside = append(outside, p)
		}
	}
	o := c.timeline.hosts[name]
	if o == nil {
		o = &output{stretches: []stretch{{state: free}}}
	}
	m := match(o, inside, outside, c.Clocks, func(p packet) bool { return p.kind == "RARP" && c.restoredAt(name, p.Time) })
	c.matched[name] = m
	for _, e := range m.early {
		c.early(name, o, e)
	}
	for _, p := range m.strange {
		c.strange(name, p)
	}
	c.order(m)
	for _, s := range m.emitted {
		c.emission(o, s)
	}
	c.report.add(m, o)
}

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
		c.report.violation(Missing, s.Host, s.Time, "%s; committed with epoch %d of generation %d, and never seen outside", &s.packet, b.epoch, b.generation)
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
		return f.Host == s.Host && f.From.Before(s.right.from.Add(slack)) && s.Time.Before(f.Until)
	})
}
