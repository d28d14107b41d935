package testbed

import (
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/alarm"
	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestServiceFails: the guest's service closes its port. People hear of it, and nothing is
// failed over for it; a host that dies then shows why: the restored service fails as well,
// and the new primary is the one to see it answer again.
func TestServiceFails(t *testing.T) {
	b := up(t)
	ctx := t.Context()
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	refuse := func(path string) {
		t.Helper()
		if _, err := b.Ledger(ctx, path); err != nil {
			t.Fatal(err)
		}
	}
	protect := []string{"protect", "g1", "--probe", "tcp://" + guestAddr + ":7000", "--probe-interval", "500ms", "--probe-failures", "2"}
	refuse("/refuse?on=1")
	if text, err := b.Hamgr(ctx, "h2", protect...); err == nil || !strings.Contains(text+err.Error(), "does not answer its probe from h1") {
		t.Fatalf("protected with a probe that cannot work: %s, %v", text, err)
	}
	refuse("/refuse?on=0")
	if text, err := b.Hamgr(ctx, "h2", protect...); err != nil {
		t.Fatal(text, err)
	}
	refuse("/refuse?on=1")
	awaitProbe(t, b, "h1", "refused")
	awaitAlarm(t, b, alarm.Service)
	if text, err := b.Hamgr(ctx, "h3", "status"); err != nil || !strings.Contains(text, "g1 is protected, but: its service has not answered") {
		t.Error(text, err)
	}
	before := protectedNow(t, b)
	if _, err := b.Host("h1").PowerOff(); err != nil {
		t.Fatal(err)
	}
	if p := protectedAfter(t, b, before.Generation); p.Primary != before.Backup || p.ProbeFailed == "" {
		t.Errorf("what does a copy of a service that fails answer on %s? %q", p.Primary, p.ProbeFailed)
	}
	refuse("/refuse?on=0")
	awaitProbe(t, b, before.Backup, "")
	events, err := b.Events(ctx, "h3")
	if err != nil {
		t.Fatal(err)
	}
	var seen []core.Event
	for _, e := range events {
		switch e.Kind {
		case core.ProbeFailed, core.ProbePassed:
			seen = append(seen, e)
		case core.FailOver:
			if e.Node != "h1" || len(seen) == 0 || strings.Contains(e.Cause, "probe") {
				t.Errorf("a failover that nobody asked for: %+v", e)
			}
		}
	}
	if n := len(seen); n < 2 || seen[0].Kind != core.ProbeFailed || seen[0].Node != "h1" || seen[n-1].Kind != core.ProbePassed || seen[n-1].Node != before.Backup {
		t.Errorf("%+v", seen)
	}
}

// awaitProbe waits until g1, protected on host, is said to fail its probe with these words,
// or with none not to.
func awaitProbe(t *testing.T, b *Bed, host, words string) {
	t.Helper()
	_, err := b.WaitStatus(t.Context(), "h3", 30*time.Second, "the probe's outcome on "+host+": "+words, func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected && g.Primary == host &&
			(g.ProbeFailed != "") == (words != "") && strings.Contains(g.ProbeFailed, words)
	})
	if err != nil {
		t.Fatal(err)
	}
}
