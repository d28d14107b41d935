package commit

import (
	"cmp"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// state is what may be done with a guest's output on one host.
type state int

const (
	free    state = iota // passes as it comes
	held                 // waits for a commit
	foreign              // another host has the guest
)

// stretch is a time of one state on one host. A held stretch that ended with the
// cluster's leave has left set: from until on, all of it may go.
type stretch struct {
	state       state
	from, until time.Time // until is zero for the last
	generation  uint64    // of a held one
	left        bool
	instance    int // counts the guest's stays on this host
}

// boundary is the end of an epoch.
type boundary struct {
	at                time.Time
	generation, epoch uint64
	commit            time.Time // zero: never
	explained         time.Time // the earliest commit of this or a later one of the stay; zero: none
	instance          int
}

// output is one host's side of a guest's story.
type output struct {
	stretches  []stretch
	boundaries []boundary
}

// timeline is the story of one guest, out of all nodes' traces.
type timeline struct {
	hosts   map[string]*output
	commits map[[2]uint64]time.Time // by generation and epoch
	orders  []trace.Event           // in the cluster's order, each at the time that its first node learned of it
	events  []trace.Event           // all of this guest, by time
}

func newTimeline(domain string, events []trace.Event) *timeline {
	t := &timeline{hosts: map[string]*output{}, commits: map[[2]uint64]time.Time{}}
	for _, e := range events {
		if e.Domain == domain {
			t.events = append(t.events, e)
		}
	}
	slices.SortStableFunc(t.events, func(a, b trace.Event) int { return a.Time.Compare(b.Time) })
	t.orders = inOrder(t.events)
	hosts := map[string]bool{}
	for _, e := range t.events {
		hosts[e.Node] = true
		if e.Kind == trace.Committed {
			t.commits[[2]uint64{e.Generation, e.Epoch}] = e.Time
		}
	}
	for h := range hosts {
		t.hosts[h] = t.tell(h)
	}
	return t
}

// inOrder sorts the orders by the cluster's log. A node that was slow learns late, or of
// several at once; the first to learn of each counts.
func inOrder(events []trace.Event) (out []trace.Event) {
	var all []trace.Event
	for _, e := range events {
		if e.Kind == trace.Order {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b trace.Event) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), a.Time.Compare(b.Time))
	})
	for _, e := range all {
		if n := len(out); n > 0 && same(out[n-1], e) {
			if e.Time.Before(out[n-1].Time) {
				out[n-1].Time = e.Time
			}
			continue
		}
		out = append(out, e)
	}
	for i := len(out) - 2; i >= 0; i-- { // who knows of an order, knows of all before it
		if out[i+1].Time.Before(out[i].Time) {
			out[i].Time = out[i+1].Time
		}
	}
	return out
}

func same(a, b trace.Event) bool {
	a.Time, a.Node, a.Index = b.Time, b.Node, b.Index
	return a == b
}

// tell follows one host through all orders and its own moments.
func (t *timeline) tell(host string) *output {
	o := &output{stretches: []stretch{{state: free}}}
	moments := slices.Clone(t.orders)
	for _, e := range t.events {
		if e.Node == host && (e.Kind == trace.Hold || e.Kind == trace.Boundary) {
			moments = append(moments, e)
		}
	}
	slices.SortStableFunc(moments, func(a, b trace.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range moments {
		switch e.Kind {
		case trace.Order:
			o.order(host, e)
		case trace.Hold:
			o.hold(e)
		case trace.Boundary:
			o.boundaries = append(o.boundaries, boundary{
				at: e.Time, generation: e.Generation, epoch: e.Epoch,
				commit: t.commits[[2]uint64{e.Generation, e.Epoch}], instance: o.last().instance,
			})
		}
	}
	o.explain()
	return o
}

func (o *output) last() *stretch { return &o.stretches[len(o.stretches)-1] }

// turn ends the last stretch and begins another.
func (o *output) turn(s state, e trace.Event, left bool) {
	l := o.last()
	l.until, l.left = e.Time, left
	next := stretch{state: s, from: e.Time, generation: e.Generation, instance: l.instance}
	if l.state == foreign {
		next.instance++
	}
	o.stretches = append(o.stretches, next)
}

func (o *output) hold(e trace.Event) {
	if o.last().state == free {
		o.turn(held, e, false)
	}
}

// order is the cluster's word as it concerns this host's output.
func (o *output) order(host string, e trace.Event) {
	l := o.last()
	inForce := e.Phase == string(core.Protected) && e.Mode == string(core.Buffer) && e.Wanted == ""
	switch {
	case e.Phase == trace.Gone:
		if l.state != free {
			o.turn(free, e, l.state == held)
		}
	case e.Primary != host:
		if l.state != foreign {
			o.turn(foreign, e, false)
		}
	case l.state == foreign:
		o.turn(free, e, false)
	case l.state == held && leave(*l, e):
		o.turn(free, e, true)
	case inForce:
		o.hold(e)
	}
}

// leave says that an order lets what is held go: to run without a backup, or in a mode
// that holds nothing.
func leave(l stretch, e trace.Event) bool {
	if e.Generation > l.generation {
		return e.Phase == string(core.Solo) || e.Phase == string(core.Syncing)
	}
	return e.Phase == string(core.Protected) && (e.Mode != string(core.Buffer) || e.Wanted != "")
}

// explain finds for each boundary the first commit that contains it.
func (o *output) explain() {
	for i := len(o.boundaries) - 1; i >= 0; i-- {
		b := &o.boundaries[i]
		b.explained = b.commit
		if i+1 == len(o.boundaries) || o.boundaries[i+1].instance != b.instance {
			continue
		}
		if next := o.boundaries[i+1].explained; b.commit.IsZero() || !next.IsZero() && next.Before(b.commit) {
			b.explained = next
		}
	}
}
