package cluster

import (
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestLogOutlivesATruncation: a follower that has entries of a leader that was deposed cuts
// them off; its log can be read when it is started again. raft-wal 0.4.0 could not.
func TestLogOutlivesATruncation(t *testing.T) {
	dir := t.TempDir()
	open := func() *store {
		t.Helper()
		s, err := openStore(dir, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	entries := func(from, to, term uint64) (out []*raft.Log) {
		for i := from; i <= to; i++ {
			out = append(out, &raft.Log{Index: i, Term: term, Data: []byte("data")})
		}
		return out
	}
	s := open()
	for _, err := range []error{s.logs.StoreLogs(entries(1, 10, 1)), s.logs.DeleteRange(8, 10), s.logs.StoreLogs(entries(8, 12, 2))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	s = open()
	defer s.close()
	for i := uint64(1); i <= 12; i++ {
		var l raft.Log
		want := uint64(1)
		if i >= 8 {
			want = 2
		}
		if err := s.logs.GetLog(i, &l); err != nil || l.Index != i || l.Term != want {
			t.Fatalf("entry %d: index %d, term %d, %v", i, l.Index, l.Term, err)
		}
	}
}
