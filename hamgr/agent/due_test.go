package agent

import (
	"testing"
	"time"
)

// TestDue: what the end of an epoch takes does not add up, and a late end is not made up for.
func TestDue(t *testing.T) {
	const epoch = 25 * time.Millisecond
	start := time.Unix(1000, 0)
	at := start.Add(epoch)
	for range 100 {
		at = due(at, at.Add(2*time.Millisecond), epoch)
	}
	if want := start.Add(101 * epoch); !at.Equal(want) {
		t.Errorf("the hundredth is due at %v, want %v", at.Sub(start), want.Sub(start))
	}
	if now := at.Add(20 * time.Millisecond); !due(at, now, epoch).Equal(now.Add(epoch)) {
		t.Error("a late end is made up for by a short epoch")
	}
}
