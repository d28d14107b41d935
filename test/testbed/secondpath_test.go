package testbed

import (
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestManagementNetworkAway takes the primary's management network away: for a moment, in
// which nothing may move as its host is heard on the guests' network, and for good, as
// a guest whose checkpoints reach nobody must not be cut off for ever.
func TestManagementNetworkAway(t *testing.T) {
	b, c := protectedGuestWith(t, Options{Hosts: 3, Config: "heartbeat: {detour: 5s}\n"})
	ctx := t.Context()
	before := protectedAfter(t, b, 0)
	h := b.Host("h1")
	if err := h.Cut("mgmt"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.WaitStatus(ctx, "h3", 10*time.Second, "h1 heard on its second path", func(s api.Status, _ *api.ProtectionStatus) bool {
		return nodeState(s, "h1") == "second-path"
	}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // in which nothing is to happen
	if err := h.Heal("mgmt"); err != nil {
		t.Fatal(err)
	}
	s, err := b.WaitStatus(ctx, "h3", 40*time.Second, "h1 back, g1 protected", func(s api.Status, g *api.ProtectionStatus) bool {
		return nodeState(s, "h1") == "alive" && g != nil && g.Phase == core.Protected
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Protections[0]; p.Primary != before.Primary {
		t.Fatalf("g1 was moved from %s to %s by a management network that was away for a moment", before.Primary, p.Primary)
	}
	waitAnswers(t, c, 20)

	again := protectedAfter(t, b, 0)
	if err := h.Cut("mgmt"); err != nil {
		t.Fatal(err)
	}
	moved := protectedAfter(t, b, again.Generation)
	if moved.Primary == "h1" {
		t.Fatalf("g1 stayed where nobody can commit: %+v", moved)
	}
	if cause := failoverCause(t, b); !strings.Contains(cause, "second path") {
		t.Fatalf("cause: %s", cause)
	}
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

func nodeState(s api.Status, name string) string {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n.State
		}
	}
	return ""
}

func failoverCause(t *testing.T, b *Bed) (cause string) {
	t.Helper()
	events, err := b.Events(t.Context(), "h3")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == core.FailOver {
			cause = e.Cause
		}
	}
	return cause
}
