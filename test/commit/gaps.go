package commit

import (
	"slices"
	"strings"
	"time"

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
	sent []word
	seen []time.Time // answers that the network saw, by when the guest gave them
	lost []time.Time // answers that the guest gave, that were not seen and need not have been
}

// gaps counts the transmissions over UDP that stayed without an answer. Each of them has to
// have one of its own, given after it was sent: a guest that is restored answers once more what
// it is delivered once more. Or it may have been lost, or its answer.
func (c *checker) gaps(words []word) {
	nobody, starting, stops, u := c.nobody(), c.starting(), c.stops(), &c.report.UDP
	for id, t := range c.transmissions(words) {
		last := t.sent[len(t.sent)-1]
		if !c.due(last) || t.sent[0].at.Before(c.Asked) {
			continue
		}
		sent, answers := t.sent, t.seen
		lacking := c.unanswered(sent, answers)
		u.Sent += len(sent)
		u.Answered += len(sent) - lacking
		excuse := func(count *int) {
			n := c.unanswered(sent, answers)
			*count += lacking - n
			lacking = n
		}
		answers = slices.Concat(answers, t.lost)
		excuse(&u.Withheld)
		sent = without(sent, nobody)
		excuse(&u.Nobody)
		sent = without(sent, starting)
		excuse(&u.Starting)
		for more := lacking > 0; more && lacking > 0; excuse(&u.AtStop) {
			sent, more = useUp(sent, stops)
		}
		if u.Gaps += lacking; lacking > 0 {
			c.report.violation(Gap, last.host, last.at.Add(c.Answer), "request %d of %s over UDP: sent %d times, %v to %v before, answered %d times; %d answers are missing",
				id.number, id.client, len(t.sent), last.at.Sub(t.sent[0].at)+c.Answer, c.Answer, len(t.seen), lacking)
		}
	}
}

// unanswered is how many transmissions of a request have no answer of their own, however the
// answers are dealt out. Of those from any one on, all answers must come after that one.
func (c *checker) unanswered(sent []word, answers []time.Time) (most int) {
	for i, w := range sent {
		given := 0
		for _, a := range answers {
			if !a.Add(c.Clocks).Before(w.at) {
				given++
			}
		}
		most = max(most, len(sent)-i-given)
	}
	return most
}

// due says that the last transmission of a request had its time, in this check and in none
// before: what comes last may still be answered, or sent again, and belongs to the check
// that goes on from here, if it does not ask for newer ones (Options.Asked).
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
	for _, m := range c.matched {
		for _, s := range m.emitted {
			if s.kind != "UDP" || s.source.Port() != c.Port {
				continue
			}
			t := all[answered(strings.TrimSuffix(string(s.payload), "\n"))]
			switch {
			case t == nil:
			case !s.seen.IsZero():
				t.seen = append(t.seen, s.Time)
			case c.mayBeLost(s):
				t.lost = append(t.lost, s.Time)
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
// link that is down, or with an agent that holds it and dies.
func (c *checker) mayBeLost(s *sighting) bool {
	if c.faulty(s) {
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
