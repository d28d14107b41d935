package testbed

import (
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestLostGuestIsStartedAnew: a guest that runs alone loses its QEMU, and is started where
// it was; then its host, and is started elsewhere, never without an alarm.
func TestLostGuestIsStartedAnew(t *testing.T) {
	b := upWith(t, Options{Hosts: 4}, 4)
	ctx := t.Context()
	if err := b.StartGuest(ctx, "h4", 128); err != nil {
		t.Fatal(err)
	}
	if text, err := b.Protect(ctx, "h1", "g1", "--backup", "h3", "--on-loss", "restart"); err != nil {
		t.Fatal(text, err)
	}
	if _, err := b.Host("h3").PowerOff(); err != nil {
		t.Fatal(err)
	}
	alone := func(above uint64, where string) uint64 {
		t.Helper()
		s, err := b.WaitStatus(ctx, "h1", time.Minute, "g1 alone on "+where, func(_ api.Status, g *api.ProtectionStatus) bool {
			return g != nil && g.Phase == core.Solo && g.Generation > above && (where == "" || g.Primary == where)
		})
		if err != nil {
			t.Fatal(err)
		}
		return s.Protections[0].Generation
	}
	generation := alone(0, "h4")
	if _, err := b.Host("h4").Exec(ctx, "pkill", "-KILL", "qemu-system"); err != nil {
		t.Fatal(err)
	}
	generation = alone(generation, "h4")
	if err := b.waitPing(ctx, guestAddr); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Host("h4").PowerOff(); err != nil {
		t.Fatal(err)
	}
	s, err := b.WaitStatus(ctx, "h1", time.Minute, "g1 on another host, protected", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Primary != "h4" && g.Generation > generation && g.Phase == core.Solo
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.waitPing(ctx, guestAddr); err != nil {
		t.Fatal(err)
	}
	t.Logf("started anew on %s", s.Protections[0].Primary)
	var kinds []core.Kind
	events, err := b.Events(ctx, "h1")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == core.MarkLost || e.Kind == core.Restart {
			kinds = append(kinds, e.Kind)
		}
	}
	if len(kinds) != 4 {
		t.Errorf("two losses and two starts should have been said: %v", kinds)
	}
}

// TestFailoverBehindALease: a guest that may be started anew elsewhere is behind a lease when
// nothing holds its output. A failover of it is none the worse, and nor is the time after.
func TestFailoverBehindALease(t *testing.T) {
	b, c := protectedGuest(t, "--on-loss", "restart")
	waitAnswers(t, c, 20)
	before := protectedNow(t, b)
	if _, err := b.Host("h1").PowerOff(); err != nil {
		t.Fatal(err)
	}
	if p := protectedAfter(t, b, before.Generation); p.Primary != before.Backup || !p.Fenced {
		t.Errorf("%+v", p.Protection)
	}
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}
