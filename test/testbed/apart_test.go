package testbed

import (
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/guest/image"
)

// TestGroupStaysApart: the first guest of a group is protected by the host that the second
// runs on; its replica leaves that, and a failure brings the two not together.
func TestGroupStaysApart(t *testing.T) {
	b := up(t)
	ctx := t.Context()
	guests := []image.Guest{G1(128), {Name: "g2", MemoryMiB: 128, MAC: "52:54:00:78:00:02", IP: "10.78.0.202/24"}}
	for i, g := range guests {
		if err := b.Start(ctx, []string{"h1", "h2"}[i], g); err != nil {
			t.Fatal(err)
		}
		if text, err := b.Protect(ctx, "h3", g.Name, "--anti-affinity", "web"); err != nil {
			t.Fatal(text, err)
		}
	}
	both := func(what string, pairs ...string) {
		t.Helper()
		_, err := b.WaitStatus(ctx, "h3", 30*time.Second, what, func(s api.Status, _ *api.ProtectionStatus) bool {
			for i, p := range s.Protections {
				if p.Phase != core.Protected || p.Primary+" "+p.Backup != pairs[i] {
					return false
				}
			}
			return len(s.Protections) == 2
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	both("both have their replica on the host where none of them runs", "h1 h3", "h2 h3")
	if _, err := b.Host("h1").PowerOff(); err != nil {
		t.Fatal(err)
	}
	both("apart, and protected by each other's hosts, as there are no others", "h3 h2", "h2 h3")
	awaitAlarm(t, b, "hamgr.protection.together")
}
