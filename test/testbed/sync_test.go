package testbed

import (
	"fmt"
	"testing"
	"time"
)

// TestFirstCopyKeepsToItsBandwidth: memory that does not compress to nothing cannot get
// to the backup sooner than the bound allows.
func TestFirstCopyKeepsToItsBandwidth(t *testing.T) {
	const bound, noise = 10, 40 // MiB a second, MiB
	b := upWith(t, Options{Hosts: 2, Config: fmt.Sprintf("sync_mib_per_s: %d\n", bound)}, 2)
	ctx := t.Context()
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Ledger(ctx, fmt.Sprintf("/alloc?mb=%d", noise)); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	text, err := b.Hamgr(ctx, "h1", "protect", "g1")
	if err != nil {
		t.Fatal(text, err)
	}
	took := time.Since(from)
	t.Logf("%v\n%s", took, text)
	if least := noise * time.Second / bound * 9 / 10; took < least {
		t.Errorf("the first copy of %d MiB took %v, and at %d MiB/s it takes %v at least", noise, took, bound, least)
	}
}
