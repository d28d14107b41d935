package gate

import (
	"testing"
	"time"
)

// TestDeadlineIsNeverLate: a process that is stopped while it computes a deadline gets
// less time, not more.
func TestDeadlineIsNeverLate(t *testing.T) {
	const stopped = 50 * time.Millisecond
	slow := func() int64 {
		time.Sleep(stopped)
		now := bootTime()
		time.Sleep(stopped)
		return now
	}
	before := bootTime()
	got := int64(deadline(time.Now().Add(time.Second), slow))
	if late := got - before - int64(time.Second); late > int64(stopped)/2 {
		t.Errorf("late by %v", time.Duration(late))
	}
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
