package testbed

import (
	"fmt"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
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

// TestLibvirtGoesDuringTheFirstCopy: at its end the guest stands still, and hamgr can ask
// QEMU nothing. When libvirt is back, the guest goes on and is protected.
func TestLibvirtGoesDuringTheFirstCopy(t *testing.T) {
	b, c := protectedGuestWith(t, Options{Hosts: 3, Config: "sync_mib_per_s: 20\n"})
	ctx := t.Context()
	before := protectedNow(t, b)
	kill(t, b, before.Backup, "^/usr/bin/qemu-system-x86_64 -name guest=g1")
	begun, err := b.WaitStatus(ctx, "h3", 40*time.Second, "the next first copy", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Syncing && g.Generation > before.Generation && g.Stats != nil && g.Stats.SyncPercent > 0 && g.Stats.SyncPercent < 100
	})
	if err != nil {
		t.Fatal(err)
	}
	onHost(t, b, "h1", "mv /usr/sbin/libvirtd /usr/sbin/libvirtd.away")
	kill(t, b, "h1", "^libvirtd")
	generation := begun.Protections[0].Generation
	_, err = b.WaitStatus(ctx, "h3", 40*time.Second, "that backup given up", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Generation > generation
	})
	onHost(t, b, "h1", "mv /usr/sbin/libvirtd.away /usr/sbin/libvirtd")
	if err != nil {
		t.Fatal(err)
	}
	protectedAfter(t, b, generation)
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}
