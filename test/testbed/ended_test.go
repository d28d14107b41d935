package testbed

import (
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestGuestIsEnded: a guest that its operator ends, asking it or pulling its plug, is not
// started elsewhere; its protection is over, and nothing of it stays.
func TestGuestIsEnded(t *testing.T) {
	b := up(t)
	ctx := t.Context()
	for _, how := range []string{"destroy", "shutdown"} {
		if err := b.StartGuest(ctx, "h1", 128); err != nil {
			t.Fatal(err)
		}
		if text, err := b.Protect(ctx, "h1", "g1"); err != nil {
			t.Fatal(text, err)
		}
		if text, err := b.Host("h1").Exec(ctx, "virsh", "-q", how, "g1"); err != nil {
			t.Fatal(text, err)
		}
		if how == "shutdown" { // the guest has no ACPI daemon; QEMU's own way out is the same
			if text, err := b.Host("h1").Exec(ctx, "virsh", "-q", "qemu-monitor-command", "g1", `{"execute":"quit"}`); err != nil {
				t.Log(text, err)
			}
		}
		_, err := b.WaitStatus(ctx, "h3", time.Minute, "no protection", func(s api.Status, g *api.ProtectionStatus) bool { return g == nil && s.Leader != "" })
		if err != nil {
			t.Fatal(err)
		}
		events, err := b.Events(ctx, "h3")
		if err != nil {
			t.Fatal(err)
		}
		last := core.Event{}
		for _, e := range events {
			if e.Kind == core.FailOver || e.Kind == core.MarkLost {
				t.Errorf("%s: %+v", how, e)
			}
			if e.Kind == core.Unprotect {
				last = e
			}
		}
		if !strings.Contains(last.Cause, "shut down") {
			t.Errorf("%s: the protection ended for %q", how, last.Cause)
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			gone := 0
			for _, h := range b.Nodes() {
				if _, err := b.Host(h).Exec(ctx, "pgrep", "-f", "qemu-system-x86_64 -name guest=g1"); err != nil {
					gone++
				}
			}
			if gone == 3 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: a copy of the guest is left", how)
			}
		}
		if text, err := b.Host("h1").Exec(ctx, "virsh", "-q", "undefine", "g1"); err != nil {
			t.Fatal(text, err)
		}
	}
}
