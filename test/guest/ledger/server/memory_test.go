package server

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestDirtyAtARate(t *testing.T) {
	s := start(t)
	var m MemoryState
	get(t, s, "/alloc?mb=2", &m)
	began := time.Now()
	get(t, s, "/dirty?pages_per_s=2000&mb=1", &m)
	if m.HeldMB != 2 || m.DirtyMB != 1 || m.PagesPerSec != 2000 {
		t.Fatalf("after alloc and dirty: %+v", m)
	}
	for m.Rewritten < 600 { // more than twice round
		if get(t, s, "/checksum", &m); time.Since(began) > 10*time.Second {
			t.Fatalf("after 10 s: %+v", m)
		}
	}
	if rate := float64(m.Rewritten) / time.Since(began).Seconds(); rate > 2600 {
		t.Errorf("%.0f pages a second, 2000 wanted", rate)
	}
	get(t, s, "/dirty", &m)
	if m.PagesPerSec != 0 || m.DirtyMB != 1 {
		t.Errorf("stopped: %+v", m)
	}
	var again MemoryState
	if get(t, s, "/checksum", &again); again.Rewritten != m.Rewritten {
		t.Errorf("dirtying goes on: %d, then %d", m.Rewritten, again.Rewritten)
	}
}

// A page of another version, in either region, written or not, is found.
func TestChecksumFindsAStrayPage(t *testing.T) {
	for name, spoil := range map[string]func(*memory){
		"a bit":              func(m *memory) { m.held.page(200)[77] ^= 4 },
		"an earlier version": func(m *memory) { m.dirtied.versions[3]++ },
		"another page":       func(m *memory) { copy(m.dirtied.page(5), m.dirtied.page(6)) },
		"a page of zeros":    func(m *memory) { clear(m.held.page(0)) },
		"the other region":   func(m *memory) { copy(m.held.page(9), m.dirtied.page(9)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			var m MemoryState
			get(t, s, "/alloc?mb=1", &m)
			get(t, s, "/dirty?pages_per_s=0&mb=1", &m)
			get(t, s, "/checksum", &m)
			s.memory.mu.Lock()
			spoil(s.memory)
			s.memory.mu.Unlock()
			if code, text := status(t, s, "/checksum"); code != http.StatusInternalServerError || !strings.Contains(text, "page ") {
				t.Errorf("%d %s", code, text)
			}
		})
	}
}

func TestMemoryRequestsThatCannotBe(t *testing.T) {
	s := start(t)
	for _, path := range []string{"/alloc", "/alloc?mb=x", "/alloc?mb=-1", "/alloc?mb=2000000000", "/dirty?mb=2000000000&pages_per_s=1",
		"/dirty?pages_per_s=2000000", "/append?number=x", "/append?client=a%20b", "/append?text=a%0Ab"} {
		if code, text := status(t, s, path); code != http.StatusBadRequest || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
	if m := s.memory.state(); m != (MemoryState{}) {
		t.Errorf("something was left: %+v", m)
	}
}
