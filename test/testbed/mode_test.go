package testbed

import (
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestModeChanges goes from buffer to checkpoint and back while a client asks on: its
// latency shows whether output is held, and nothing is lost.
func TestModeChanges(t *testing.T) {
	b, c := protectedGuest(t)
	ctx := t.Context()
	median := func() (latency float64) {
		t.Helper()
		for range 5 {
			before, from := protectedNow(t, b).Generation, time.Now()
			waitAnswers(t, c, 60)
			latency = Quantile(c.Samples(), from, time.Now(), 0.5)
			if protectedNow(t, b).Generation == before {
				return latency
			}
			t.Log("g1 was without a replica meanwhile, and its output open") // see below
		}
		t.Fatal("g1 does not stay protected")
		return 0
	}
	held := median()
	for _, mode := range []string{"checkpoint", "buffer"} {
		if out, err := b.Tell(ctx, "h3", "mode", "g1", mode); err != nil {
			t.Fatal(out, err)
		}
		now := median()
		t.Logf("%s: median latency %.1f ms, held before %.1f ms", mode, now, held)
		if mode == "checkpoint" && now > held/2 {
			t.Errorf("in mode checkpoint an answer takes %.1f ms, held %.1f ms", now, held)
		}
		if mode == "buffer" && now < held/2 {
			t.Errorf("back in mode buffer an answer takes %.1f ms, before %.1f ms", now, held)
		}
	}
	events, err := b.Events(ctx, "h2")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == core.GoSolo && !strings.Contains(e.Cause, "heartbeat") { // a busy machine may miss some
			t.Errorf("a change of mode is to cost no first copy: %+v", e)
		}
	}
	verdict(t, b, c)
}

// TestCheckpointMode: without held output a power-off may roll back what was seen, but the
// guest lives on, and was not taken over before its lease was over.
func TestCheckpointMode(t *testing.T) {
	b, _ := protectedGuest(t, "--mode", "checkpoint")
	if out, err := b.Hamgr(t.Context(), "h2", "failover", "g1", "--now"); exitStatus(err) != 4 {
		t.Fatalf("a failover beside a primary that emits: %s %v", out, err)
	}
	before := protectedNow(t, b)
	if _, err := b.Host("h1").PowerOff(); err != nil {
		t.Fatal(err)
	}
	p := protectedAfter(t, b, before.Generation)
	if p.Primary != before.Backup || p.Mode != core.Checkpoint {
		t.Errorf("%s in mode %s", p.Primary, p.Mode)
	}
	if err := b.waitPing(t.Context(), guestAddr); err != nil {
		t.Error(err)
	}
}

// TestCutOffPrimaryFallsSilent: in checkpoint mode nothing holds the output of a primary
// that the managers cannot reach; its lease does.
func TestCutOffPrimaryFallsSilent(t *testing.T) {
	b, c := protectedGuest(t, "--mode", "checkpoint")
	before := protectedNow(t, b)
	if err := b.Host("h1").Cut("mgmt"); err != nil {
		t.Fatal(err)
	}
	s, err := b.WaitStatus(t.Context(), "h3", 40*time.Second, "g1 on its backup", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Primary == before.Backup && g.Phase != core.Recovering
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after the cut: %+v", s.Protections[0].Protection)
	if err := b.waitPing(t.Context(), guestAddr); err != nil {
		t.Error(err)
	}
	c.Stop(b) // it may have been answered by both, one after the other: no verdict in this mode
	if err := b.Host("h1").Heal("mgmt"); err != nil {
		t.Fatal(err)
	}
	protectedAfter(t, b, before.Generation+1)
}
