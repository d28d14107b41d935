package commit

import (
	"slices"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// UDP is what became of the requests over UDP, each transmission counted by itself.
type UDP struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	// Without an answer, and rightly so; see the package's comment.
	Nobody   int `json:"reached_nobody"`
	Withheld int `json:"answers_lost"`
	Starting int `json:"lost_at_a_start"`
	AtStop   int `json:"lost_at_a_stop"`
	Gaps     int `json:"gaps"` // and wrongly
}

// transmissions are a request's, and what the guest made of them.
type transmissions struct {
	sent    []word
	answers int // seen
	lost    int // answers that the guest gave, that were not seen and need not have been
}

// gaps counts the transmissions over UDP that stayed without an answer. A request that was
// sent k times and answered m times lacks k-m answers; that may be if as many of its
// transmissions, or of the answers that the guest did give, may have been lost.
func (c *checker) gaps(words []word) {
	nobody, starting, stops, u := c.nobody(), c.starting(), c.stops(), &c.report.UDP
	for id, t := range c.transmissions(words) {
		if !c.due(t.sent[len(t.sent)-1]) {
			continue
		}
		u.Sent += len(t.sent)
		u.Answered += min(t.answers, len(t.sent))
		lacking := max(0, len(t.sent)-t.answers)
		excuse := func(count *int, many int) {
			n := min(lacking, many)
			*count += n
			lacking -= n
		}
		excuse(&u.Withheld, t.lost)
		excuse(&u.Nobody, within(t.sent, nobody))
		excuse(&u.Starting, within(t.sent, starting))
		for lacking > 0 && useUp(t.sent, stops) {
			excuse(&u.AtStop, 1)
		}
		if u.Gaps += lacking; lacking > 0 {
			last := t.sent[len(t.sent)-1]
			c.report.violation(Gap, last.host, last.at.Add(c.Answer), "request %d of %s over UDP: sent %d times, %v to %v before, answered %d times; %d answers are missing",
				id.number, id.client, len(t.sent), last.at.Sub(t.sent[0].at)+c.Answer, c.Answer, t.answers, lacking)
		}
	}
}

// due says that the last transmission of a request had its time, in this check and in none
// before: what comes last may still be answered, or sent again, and belongs to the check
// that goes on from here.
func (c *checker) due(w word) bool {
	return !w.at.Before(c.From.Add(-c.Answer)) && w.at.Before(c.end().Add(-c.Answer))
}

func (c *checker) transmissions(words []word) map[request]*transmissions {
	all := map[request]*transmissions{}
	for _, w := range words {
		if r, err := chain.ParseRequest(w.line); w.udp && !w.response && err == nil {
			id := request{r.Client, r.Number}
			if all[id] == nil {
				all[id] = &transmissions{}
			}
			all[id].sent = append(all[id].sent, w)
		}
	}
	for _, w := range words {
		if t := all[answered(w.line)]; t != nil && w.udp && w.response {
			t.answers++
		}
	}
	for _, m := range c.matched {
		for _, s := range m.emitted {
			if !s.seen.IsZero() || s.kind != "UDP" {
				continue
			}
			if t := all[answered(strings.TrimSuffix(string(s.payload), "\n"))]; t != nil && c.mayBeLost(s) {
				t.lost++
			}
		}
	}
	return all
}

// answered is the request that a line answers; the zero one: none.
func answered(line string) request {
	r, err := chain.ParseReply(line)
	if err != nil {
		return request{}
	}
	return request{r.Client, r.Number}
}

// mayBeLost says that what the guest has sent may be lost though the guest lives on: on a
// link that is down, at the gate of mode checkpoint, which closes when the host has no
// lease, or with an agent that holds it and dies.
func (c *checker) mayBeLost(s *sighting) bool {
	if c.faulty(s) || c.timeline.mode(s.Time) == string(core.Checkpoint) {
		return true
	}
	for _, f := range c.Faults {
		if f.What != AgentKilled || f.Host != s.Host {
			continue
		}
		if from, until := c.withoutAgent(f); !s.Time.Before(from) && !s.Time.After(until) {
			return true
		}
	}
	return false
}

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
			from, until = c.withoutAgent(f)
			out = append(out, window{"", from.Add(-c.Way), until})
		case f.What == LinkDown || f.What == PowerOff:
			out = append(out, window{"", from, until})
		case f.What == GuestKilled || c.movedAfter(f):
			out = append(out, c.untilSeen(f.Host, from)...)
		}
	}
	for host, o := range c.timeline.hosts { // a host that was given up, and lives
		for _, e := range c.timeline.events {
			if e.Kind == trace.Restored && o.find(e) >= 0 && !c.off(host, e.Time) {
				out = append(out, c.untilSeen(host, e.Time.Add(-c.Way))...)
			}
		}
	}
	return out
}

// off says that a host had lost power, and not run again before an instant.
func (c *checker) off(host string, at time.Time) bool {
	return slices.ContainsFunc(c.Faults, func(f Fault) bool {
		return f.What == PowerOff && f.Host == host && f.From.Before(at) && !c.timeline.had(host, f.Until.Add(c.Answer), at)
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
// was queued for it: there QEMU throws one packet away.
func (c *checker) stops() (out []window) {
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

// within counts the transmissions in any of the windows.
func within(ws []word, windows []window) (n int) {
	for _, w := range ws {
		if slices.ContainsFunc(windows, func(x window) bool { return x.has(w) }) {
			n++
		}
	}
	return n
}

// useUp finds a window for one of the transmissions, which then has room for no other.
func useUp(ws []word, windows []window) bool {
	for _, w := range ws {
		if i := slices.IndexFunc(windows, func(x window) bool { return x.has(w) }); i >= 0 {
			windows[i] = window{} // in no time
			return true
		}
	}
	return false
}
