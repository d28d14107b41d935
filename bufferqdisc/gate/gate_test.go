package gate

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
		if got := time.Duration(deadline(start.Add(time.Second), slow)); got > time.Second {
			t.Errorf("late by %v", got-time.Second)
		}
	})
	if got := deadline(time.Now().Add(-time.Hour), func() int64 { return 5 }); got != 0 {
		t.Errorf("long ago is %d", got)
	}
}

func TestProgramLoads(t *testing.T) {
	p, err := load()
	if err != nil {
		t.Fatal(err)
	}
	p.shared().deadline.Store(1)
	ret, _, err := p.prog.Test(make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	if s := p.shared(); ret != actShot || s.dropped.Load() != 1 || s.droppedBytes.Load() != 64 {
		t.Errorf("%d, %d packets of %d bytes", ret, s.dropped.Load(), s.droppedBytes.Load())
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
