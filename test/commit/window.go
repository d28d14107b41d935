package commit

import (
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// window is a time in which requests may be lost on their way.
type window struct {
	mac         string // to this NIC; empty: to any
	from, until time.Time
}

// nobody is when requests may have reached nobody who could keep them.
func (c *checker) nobody() (out []window) {
	for _, f := range c.Faults {
		from, until := f.From.Add(-c.Way), f.Until.Add(c.Way)
		switch {
		case !c.timeline.had(f.Host, f.From, f.Until):
		case f.What == AgentKilled:
			out = append(out, c.agentDied(f)...)
		case f.What == LinkDown || f.What == PowerOff:
			out = append(out, window{"", from, until})
		case f.What != GuestKilled && c.movedAfter(f):
			out = append(out, c.untilSeen(f.Host, from)...)
		}
	}
	for host, o := range c.timeline.hosts { // a host that was given up, and lives
		for _, e := range c.timeline.events {
			if e.Kind == trace.Restored && o.find(e) >= 0 && !c.died(host, e.Time) {
				out = append(out, c.untilSeen(host, e.Time.Add(-c.Way))...)
			}
		}
	}
	return out
}

// died says that a host had lost power, or the guest there its QEMU, and the guest had not
// been there again before an instant.
func (c *checker) died(host string, at time.Time) bool {
	return slices.ContainsFunc(c.Faults, func(f Fault) bool {
		return (f.What == PowerOff || f.What == GuestKilled) && f.Host == host && f.From.Before(at) && !c.timeline.had(host, f.Until.Add(c.Answer), at)
	})
}

// untilSeen is from an instant until the network has first seen each NIC at another host.
func (c *checker) untilSeen(host string, from time.Time) (out []window) {
	for _, mac := range c.MACs {
		until := c.end()
		for _, p := range c.packets {
			if p.Device == "" && p.src == mac && p.Host != host && p.Time.After(from) {
				until = p.Time.Add(c.Clocks)
				break
			}
		}
		out = append(out, window{mac, from, until})
	}
	return out
}

// movedAfter says that a host lost its guest to another one while it was cut off.
func (c *checker) movedAfter(f Fault) bool {
	return slices.ContainsFunc(c.timeline.orders, func(o trace.Event) bool {
		return o.Time.After(f.From) && o.Time.Before(f.Until.Add(c.Answer)) && o.Phase == string(core.Recovering) && o.Primary != f.Host
	})
}

func (c *checker) starting() []window {
	ws := c.timeline.starts()
	for i := range ws {
		ws[i].from, ws[i].until = ws[i].from.Add(-c.Way), ws[i].until.Add(c.Way)
	}
	return ws
}

// stops are, for each NIC, the ends of epochs before which the guest had not taken all that
// was queued for it, and those after which it stood still, as its agent died: there QEMU throws
// one packet away.
func (c *checker) stops() (out []window) {
	for _, f := range c.Faults {
		if from, until := c.stoodStill(f); f.What == AgentKilled && c.timeline.had(f.Host, f.From, f.Until) {
			for _, mac := range c.MACs {
				out = append(out, window{mac, from.Add(-c.Way), until})
			}
		}
	}
	last := map[string]time.Time{}
	for _, e := range c.timeline.events {
		if e.Kind != trace.Boundary {
			continue
		}
		for _, mac := range c.MACs {
			if e.Queued {
				out = append(out, window{mac, last[e.Node].Add(-c.Way), e.Time})
			}
		}
		last[e.Node] = e.Time
	}
	return out
}

func (x window) has(w word) bool {
	return !w.at.Before(x.from) && !w.at.After(x.until) && (x.mac == "" || x.mac == w.mac)
}

// without are the transmissions that are in none of the windows.
func without(ws []word, windows []window) []word {
	return slices.DeleteFunc(slices.Clone(ws), func(w word) bool {
		return slices.ContainsFunc(windows, func(x window) bool { return x.has(w) })
	})
}

// useUp finds a window for the last transmission that there is one for, which then has room
// for no other, and returns the rest. The last, as it may be the one that any answer before
// it cannot stand for.
func useUp(ws []word, windows []window) (rest []word, found bool) {
	for i, w := range slices.Backward(ws) {
		if j := slices.IndexFunc(windows, func(x window) bool { return x.has(w) }); j >= 0 {
			windows[j] = window{} // in no time
			return slices.Delete(slices.Clone(ws), i, i+1), true
		}
	}
	return ws, false
}
