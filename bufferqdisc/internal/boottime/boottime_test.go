package boottime

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadlineIsNeverLate: a process that is stopped while it computes a deadline gets
// less time, not more.
func TestDeadlineIsNeverLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		slow := func() int64 {
			time.Sleep(50 * time.Millisecond)
			now := int64(time.Since(start))
			time.Sleep(50 * time.Millisecond)
			return now
		}
		if got := time.Duration(of(start.Add(time.Second), slow)); got > time.Second {
			t.Errorf("late by %v", got-time.Second)
		}
	})
	if got := of(time.Now().Add(-time.Hour), func() int64 { return 5 }); got != 0 {
		t.Errorf("long ago is %d", got)
	}
}
