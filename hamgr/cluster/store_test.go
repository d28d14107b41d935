package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// TestDamagedLog: one clear error and no panic of Raft's, and nothing is left open.
func TestDamagedLog(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	var some []*raft.Log
	for i := uint64(1); i <= 200; i++ {
		some = append(some, &raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte("data"), 4000)})
	}
	for batch := range slices.Chunk(some, 10) {
		if err := s.logs.StoreLogs(batch); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	if err != nil || len(segments) < 2 {
		t.Fatal(segments, err)
	}
	f, err := os.OpenFile(segments[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 64<<10), 256<<10); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := openStore(dir, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "is damaged, entry ") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v", err)
		}
	}
}
