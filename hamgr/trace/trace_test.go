package trace

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path, "h1", slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func read(t *testing.T, path string) []Event {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	events, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestEventsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	at := time.Now().Round(0)
	want := []Event{
		{Time: at, Node: "h1", Kind: Boundary, Domain: "g1", Generation: 3, Epoch: 7},
		{Time: at.Add(1), Node: "h1", Kind: Order, Domain: "g1", Generation: 4, Phase: "solo", Mode: "buffer", Primary: "h1"},
	}
	l := open(t, path)
	for _, e := range want {
		e.Node = ""
		l.Write(e)
	}
	got := read(t, path)
	for i, e := range want {
		if len(got) != len(want) || !got[i].Time.Equal(e.Time) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if got[i].Time = e.Time; got[i] != e {
			t.Errorf("got  %+v\nwant %+v", got[i], e)
		}
	}
	if before := time.Now(); l != nil {
		l.Write(Event{Kind: Cut})
		if e := read(t, path)[2]; e.Time.Before(before) {
			t.Errorf("an event without a time got %v", e.Time)
		}
	}
}

func TestNoPathNoTrace(t *testing.T) {
	l, err := Open("", "h1", slog.Default())
	if err != nil || l != nil {
		t.Fatal(l, err)
	}
	l.Write(Event{Kind: Opened})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKilledInTheMiddleOfALine: the next process goes on after the last whole line.
func TestKilledInTheMiddleOfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	open(t, path).Write(Event{Kind: Hold, Domain: "g1"})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := append(bytes.Clone(whole), whole[:len(whole)-5]...)
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, path)); n != 1 {
		t.Fatalf("%d events from one and a half", n)
	}
	open(t, path).Write(Event{Kind: Boundary, Domain: "g1"})
	if got := read(t, path); len(got) != 2 || got[1].Kind != Boundary {
		t.Fatalf("%+v", got)
	}
	if _, err := Read(strings.NewReader("{\n" + string(whole))); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Fatalf("damage in the middle: %v", err)
	}
}

func TestSizeIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	l := open(t, path)
	l.limit = 1000
	for range 100 {
		l.Write(Event{Kind: Boundary, Domain: "g1"})
	}
	sum := int64(0)
	for _, p := range []string{path, path + ".1"} {
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		sum += st.Size()
	}
	if sum > 2*1200 || len(read(t, path)) == 0 {
		t.Fatalf("%d bytes in both files", sum)
	}
}

// TestFailureEndsTheTraceOnly: no caller is held up or told.
func TestFailureEndsTheTraceOnly(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "trace"))
	l.file.Close()
	l.Write(Event{Kind: Opened})
	l.Write(Event{Kind: Opened})
	if l.file != nil {
		t.Fatal("it tries on")
	}
}
