package commit

import (
	"math"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// UDP is what became of the requests over UDP, each transmission counted by itself.
type UDP struct {
	Sent       int `json:"sent"`
	Answered   int `json:"answered"`
	Unanswered int `json:"unanswered_in_window"` // around failures, where that may be
	AtStop     int `json:"lost_at_a_stop"`       // while QEMU stopped the guest for a checkpoint
	Gaps       int `json:"gaps"`                 // anywhere else
}

// window is a time in which requests may go without an answer, so many at most.
type window struct {
	from, until time.Time
	most        int
}

// windows are the live windows of all failures: from the last boundary that was committed
// in a held stretch that ended, or from which the guest was restored, until its output
// passes again, and the grace.
func (c *checker) windows() (out []*window) {
	for _, f := range c.Faults {
		out = append(out, &window{f.From.Add(-c.Grace), f.Until.Add(c.Grace), math.MaxInt})
	}
	for host, o := range c.timeline.hosts {
		for _, s := range o.stretches {
			if s.state == held && !s.until.IsZero() {
				out = append(out, &window{o.lastCommit(s), c.back(host, s.until).Add(c.Grace), math.MaxInt})
			}
		}
		for _, e := range c.timeline.events {
			if i := o.find(e); e.Kind == trace.Restored && i >= 0 {
				out = append(out, &window{o.boundaries[i].at, e.Time.Add(c.Grace), math.MaxInt})
			}
		}
	}
	return out
}

// pending is how many transmissions may still be answered when the capture ends.
func (c *checker) pending(ws []word) (n int) {
	end := c.end().Add(-c.Grace)
	for _, w := range ws {
		if w.at.After(end) {
			n++
		}
	}
	return n
}

// stops are the times in which QEMU drops what arrives: from the order to stop the guest,
// while it waits for the CPUs, it takes packets in, and once they stand still it throws
// those away (net/net.c in its sources, net_vm_change_state_handler). A packet for each
// NIC and checkpoint at most; hamgr cannot help that, and it is counted by itself.
func (c *checker) stops() (out []*window) {
	for _, e := range c.timeline.events {
		if e.Kind == trace.Boundary && !e.Asked.IsZero() {
			out = append(out, &window{from: e.Asked.Add(-c.Way), until: e.Time, most: len(c.MACs)})
		}
	}
	return out
}

// lastCommit is the last boundary in a stretch that was committed, or its start.
func (o *output) lastCommit(s stretch) time.Time {
	at := s.from
	for _, b := range o.boundaries {
		if !b.commit.IsZero() && b.at.After(s.from) && b.at.Before(s.until) {
			at = b.at
		}
	}
	return at
}

// back is when the guest's output passed again: opened on its host, or restored elsewhere.
func (c *checker) back(host string, after time.Time) time.Time {
	for _, e := range c.timeline.events {
		if e.Time.Before(after) {
			continue
		}
		if e.Kind == trace.Opened && e.Node == host || e.Kind == trace.Restored {
			return e.Time
		}
	}
	return after
}

// gaps counts the transmissions over UDP that stayed without an answer. A request that
// was sent k times and answered m times lacks k-m answers; that may be if as many of
// its transmissions were in a live window.
func (c *checker) gaps(words []word) {
	sent, answers := map[request][]word{}, map[request]int{}
	for _, w := range words {
		if !w.udp {
			continue
		}
		if r, err := chain.ParseReply(w.line); w.response && err == nil {
			answers[request{r.Client, r.Number}]++
		}
		if r, err := chain.ParseRequest(w.line); !w.response && err == nil {
			id := request{r.Client, r.Number}
			sent[id] = append(sent[id], w)
		}
	}
	windows, stops, u := c.windows(), c.stops(), &c.report.UDP
	for id, ws := range sent {
		if ws[0].at.Before(c.From) {
			continue
		}
		u.Sent += len(ws)
		u.Answered += min(answers[id], len(ws))
		for _, w := range ws[:max(0, len(ws)-answers[id]-c.pending(ws))] {
			switch {
			case excused(ws, windows):
				u.Unanswered++
			case excused(ws, stops):
				u.AtStop++
			default:
				u.Gaps++
				c.report.violation(Gap, w.host, w.at, "request %d of %s over UDP has no answer", id.number, id.client)
			}
		}
	}
}

// excused says that a transmission of a request fell into a window that has room for it.
func excused(ws []word, windows []*window) bool {
	for _, w := range ws {
		for _, x := range windows {
			if x.most > 0 && !w.at.Before(x.from) && !w.at.After(x.until) {
				x.most--
				return true
			}
		}
	}
	return false
}
