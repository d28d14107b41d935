package commit

import (
	"strings"

	"github.com/hamgr/hamgr/hamgr/core"
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
