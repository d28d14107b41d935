package main

import (
	"fmt"
	"hash/crc64"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const pageSize = 4096

// memory is a region the guest dirties at a rate, each page holding what its version
// says, so that a checksum finds a page of another time.
type memory struct {
	mu       sync.Mutex // guards all
	data     []byte
	versions []uint64
	stop     chan struct{}
}

// dirty starts dirtying: mb= size, pages_per_s= rate (0 stops).
func (m *memory) dirty(w http.ResponseWriter, r *http.Request) {
	mb, _ := strconv.Atoi(r.URL.Query().Get("mb"))
	rate, _ := strconv.Atoi(r.URL.Query().Get("pages_per_s"))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		close(m.stop)
		m.stop = nil
	}
	if n := mb << 20; n > 0 && n != len(m.data) {
		m.data, m.versions = make([]byte, n), make([]uint64, n/pageSize)
	}
	if rate > 0 && len(m.versions) > 0 {
		m.stop = make(chan struct{})
		go m.run(rate, m.stop)
	}
}

func (m *memory) run(rate int, stop <-chan struct{}) {
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	next := 0
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		m.mu.Lock()
		for range max(1, rate*int(step)/int(time.Second)) {
			m.versions[next]++
			fill(m.data[next*pageSize:][:pageSize], uint64(next)<<32^m.versions[next])
			next = (next + 1) % len(m.versions)
		}
		m.mu.Unlock()
	}
}

// fill writes a page's content for a seed (xorshift64*).
func fill(page []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 | 1
	for i := range page {
		x ^= x >> 12
		x ^= x << 25
		x ^= x >> 27
		page[i] = byte(x * 0x2545f4914f6cdd1d >> 56)
	}
}

// checksum compares every page with what its version says.
func (m *memory) checksum(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	want := make([]byte, pageSize)
	table, sum := crc64.MakeTable(crc64.ECMA), uint64(0)
	for i, v := range m.versions {
		page := m.data[i*pageSize:][:pageSize]
		if v > 0 {
			fill(want, uint64(i)<<32^v)
			if string(want) != string(page) {
				http.Error(w, fmt.Sprintf("page %d is not of version %d", i, v), http.StatusInternalServerError)
				return
			}
		}
		sum = crc64.Update(sum, table, page)
	}
	fmt.Fprintf(w, "%016x %d pages\n", sum, len(m.versions))
}
