package agent

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hamgr/hamgr/qmp/colo"
	"github.com/hamgr/hamgr/storage/wire"
)

// TestLastPart: the end of the first copy is announced once, with so much of it to come.
func TestLastPart(t *testing.T) {
	var page [colo.PageSize]byte
	for last, want := range map[uint64]int{10: 90, 100: 1, 0: 100} {
		s, announced, read := precopySink{ctx: t.Context(), total: 100 * colo.PageSize, last: last * colo.PageSize, flushed: func() {}}, 0, 0
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

// TestSlowBackup: it may take its time, but not when the guest may stand still.
func TestSlowBackup(t *testing.T) {
	var page [colo.PageSize]byte
	for done, want := range map[uint64]time.Duration{0: time.Minute, 900: flushTimeout} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ours, theirs := net.Pipe()
			defer theirs.Close()
			s := precopySink{ctx: ctx, sender: wire.NewSender(ours), stats: &stats{}, flushed: func() {},
				total: 1000 * colo.PageSize, last: 100 * colo.PageSize, done: done * colo.PageSize}
			defer s.sender.Close()
			began := time.Now()
			var err error
			for n := uint64(0); n < flushAt && err == nil; n++ {
				err = s.Page(0, n*colo.PageSize, page[:])
			}
			if took := time.Since(began); took != want || errors.Is(err, errSlowBackup) != (want == flushTimeout) {
				t.Errorf("after %d pages of 1000: %v, %v", done, took, err)
			}
		})
	}
}
