package testbed

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestGuestPanics: a replica of a moment before would panic as well, so nothing is failed
// over. With --on-loss restart the guest is started anew; without, it is left to a person.
func TestGuestPanics(t *testing.T) {
	for policy, phase := range map[string]core.Phase{"stop": core.Lost, "restart": core.Protected} {
		t.Run(policy, func(t *testing.T) {
			b := up(t)
			ctx := t.Context()
			g := G1(128)
			g.Pvpanic = true
			if err := b.Start(ctx, "h1", g); err != nil {
				t.Fatal(err)
			}
			if text, err := b.Protect(ctx, "h1", "g1", "--on-loss", policy); err != nil {
				t.Fatal(text, err)
			}
			before := protectedAfter(t, b, 0)
			soon, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			if text, err := b.Get(soon, "/panic"); err == nil {
				t.Fatalf("the guest answers: %s", text)
			}
			s, err := b.WaitStatus(ctx, "h3", time.Minute, "g1 "+string(phase), func(_ api.Status, g *api.ProtectionStatus) bool {
				return g != nil && g.Generation > before.Generation && g.Phase == phase
			})
			if err != nil {
				t.Fatal(err)
			}
			if p := s.Protections[0]; p.Primary != "h1" {
				t.Errorf("it was moved: %+v", p)
			}
			events, err := b.Events(ctx, "h3")
			if err != nil {
				t.Fatal(err)
			}
			lost := ""
			for _, e := range events {
				if e.Kind == core.FailOver {
					t.Errorf("failed over: %+v", e)
				}
				if e.Kind == core.MarkLost {
					lost = e.Cause
				}
			}
			if !strings.Contains(lost, "panicked") {
				t.Errorf("the cause of the loss: %q", lost)
			}
			if phase == core.Protected {
				if err := b.waitPing(ctx, guestAddr); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
