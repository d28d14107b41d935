package agent

import (
	"testing"

	"github.com/hamgr/hamgr/qmp/colo"
)

// TestLastPart: the end of the first copy is announced once, with so much of it to come.
func TestLastPart(t *testing.T) {
	var page [colo.PageSize]byte
	for last, want := range map[uint64]int{10: 90, 100: 1, 0: 100} {
		s, announced, read := precopySink{total: 100 * colo.PageSize, last: last * colo.PageSize, flushed: func() {}}, 0, 0
		s.ending = func() { announced = read }
		for read = 1; read <= 100; read++ {
			if err := s.Page(0, uint64(read-1)*colo.PageSize, page[:]); err != nil {
				t.Fatal(err)
			}
		}
		if announced != want {
			t.Errorf("the last %d of 100 pages were announced at page %d, not %d", last, announced, want)
		}
	}
	for bandwidth, want := range map[uint64]uint64{0: lastPartMost, 1 << 20: lastPart, 200 << 20: 20 << 20, 10 << 30: lastPartMost} {
		if got := lastPartOf(bandwidth); got != want {
			t.Errorf("of a copy bound to %d bytes/s it is %d, not %d", bandwidth, got, want)
		}
	}
}
