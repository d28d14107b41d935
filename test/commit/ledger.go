package commit

import (
	"fmt"
	"strings"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// request names one of a client's requests.
type request struct {
	client string
	number uint64
}

// story is what the ledger has told so far.
type story struct {
	lines    map[request]string // the requests as they were sent
	replies  map[request]chain.Reply
	sequence map[uint64]chain.Reply
	linked   map[uint64]bool // entries that were shown to follow from the one before
}

// Ledger is what the ledger's replies showed.
type Ledger struct {
	Replies int `json:"replies"` // different ones
	Linked  int `json:"linked"`  // entries that follow from the one before, by their hashes
	Holes   int `json:"holes"`   // times that an entry is known and the one before is not
}

// ledger reads all that was said and looks for contradictions.
func (c *checker) ledger() {
	s := story{map[request]string{}, map[request]chain.Reply{}, map[uint64]chain.Reply{}, map[uint64]bool{}}
	words := c.words(func(p *packet, err error) { c.contradiction(p.Host, word{at: p.Time, line: p.String()}, err) })
	for _, w := range words {
		if !w.response {
			s.asked(w.line)
			continue
		}
		if err := s.told(w.line); err != nil {
			c.contradiction(w.host, w, err)
		}
	}
	c.report.Ledger = s.sum()
	c.gaps(words)
}

// contradiction is a violation unless the guest's output was not held.
func (c *checker) contradiction(host string, w word, err error) {
	if c.timeline.mayRollBack(w.at) {
		c.report.Rollbacks++
		return
	}
	c.report.violation(RolledBack, host, w.at, "%s; %v", w.line, err)
}

// asked notes a request. What is none is not ours to judge.
func (s *story) asked(line string) {
	if r, err := chain.ParseRequest(line); err == nil {
		s.lines[request{r.Client, r.Number}] = line
	}
}

// told compares a reply with all before it.
func (s *story) told(line string) error {
	if strings.HasPrefix(line, "! ") {
		return nil
	}
	r, err := chain.ParseReply(line)
	if err != nil {
		return err
	}
	if r.Expected != 0 {
		if forgot, ok := s.replies[request{r.Client, r.Expected}]; ok {
			return fmt.Errorf("but request %d was answered before, with entry %d", r.Expected, forgot.Sequence)
		}
		return nil
	}
	if old, ok := s.replies[request{r.Client, r.Number}]; ok && old != r {
		return fmt.Errorf("but the answer to this request was entry %d (%.8s) before", old.Sequence, old.Hash)
	}
	if old, ok := s.sequence[r.Sequence]; ok && old != r {
		return fmt.Errorf("but entry %d was request %d of %s (%.8s) before", r.Sequence, old.Number, old.Client, old.Hash)
	}
	s.replies[request{r.Client, r.Number}], s.sequence[r.Sequence] = r, r
	for _, seq := range []uint64{r.Sequence, r.Sequence + 1} {
		if err := s.link(seq); err != nil {
			return err
		}
	}
	return nil
}

// link checks that an entry follows from the one before, when both are known.
func (s *story) link(sequence uint64) error {
	r, ok := s.sequence[sequence]
	before, known := s.sequence[sequence-1]
	line, asked := s.lines[request{r.Client, r.Number}]
	if !ok || !asked || sequence != 1 && !known || s.linked[sequence] {
		return nil
	}
	if r.Hash != chain.Next(before.Hash, line) {
		return fmt.Errorf("but entry %d does not follow from entry %d", sequence, sequence-1)
	}
	s.linked[sequence] = true
	return nil
}

func (s *story) sum() Ledger {
	l := Ledger{Replies: len(s.replies), Linked: len(s.linked)}
	for seq := range s.sequence {
		if _, known := s.sequence[seq-1]; !known && seq > 1 {
			l.Holes++
		}
	}
	return l
}
