package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestManagerReplaced replaces the manager on the guest's primary under a client's load: h1
// goes on as an ordinary host. Then the backup, one of the managers that are left, loses
// power, then the primary: the new manager and the last of the old ones decide.
func TestManagerReplaced(t *testing.T) {
	b, c := protectedGuestWith(t, Options{Hosts: 4})
	ctx := t.Context()
	if got, err := managers(ctx, b, "h4"); !slices.Equal(got, []string{"h1", "h2", "h3"}) {
		t.Fatalf("managers: %v, %v", got, err)
	}
	for _, args := range [][]string{{"manager", "add", "h4"}, {"manager", "remove", "h1"}} {
		if text, err := b.Hamgr(ctx, "h1", args...); err != nil {
			t.Fatal(text, err)
		}
	}
	for _, h := range b.hosts {
		awaitManagers(t, b, h, "h2", "h3", "h4")
	}
	if text, err := b.Hamgr(ctx, "h3", "manager", "remove", "h1"); exitStatus(err) != 4 {
		t.Fatalf("h1 removed twice: %s %v", text, err)
	}
	before := protectedNow(t, b)
	if before.Primary != "h1" {
		t.Fatalf("a change of the managers moved the guest: %+v", before)
	}
	waitAnswers(t, c, 40)

	silent := before.Backup
	left := slices.DeleteFunc([]string{"h2", "h3", "h4"}, func(h string) bool { return h == silent })
	if _, err := b.Host(silent).PowerOff(); err != nil {
		t.Fatal(err)
	}
	again := protectedAfterAt(t, b, "h1", before.Generation)
	if again.Primary != "h1" || again.Backup == silent {
		t.Fatalf("after its backup has lost power: %+v", again)
	}
	if text, err := b.Hamgr(ctx, "h1", "manager", "remove", left[1]); exitStatus(err) != 4 || !strings.Contains(text, silent+" is silent") {
		t.Fatalf("one of the last two managers removed: %s %v", text, err)
	}
	waitAnswers(t, c, 20)

	if _, err := b.Host("h1").PowerOff(); err != nil {
		t.Fatal(err)
	}
	s, err := b.WaitStatus(ctx, left[0], 40*time.Second, "g1 protected on the last two", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected && g.Generation > again.Generation && g.Primary != "h1"
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in the end: %+v", s.Protections[0].Protection)
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// TestManagerLosesItsDisk: it comes back as an ordinary host, not with a cluster of its own,
// and is a manager again when it is told to; the guest, whose backup it is, is protected anew.
func TestManagerLosesItsDisk(t *testing.T) {
	b, c := protectedGuest(t)
	ctx := t.Context()
	if out, err := b.Host("h2").Exec(ctx, "find", DataDir, "-mindepth", "1", "-delete"); err != nil {
		t.Fatal(out, err)
	}
	kill(t, b, "h2", "^/opt/hamgr/bin/hamgr serve")
	p := protectedAfter(t, b, 1)
	if p.Primary != "h1" {
		t.Errorf("the loss of another host's disk moved the guest: %+v", p)
	}
	s, err := b.WaitStatus(ctx, "h2", time.Minute, "h2 an ordinary host", func(s api.Status, g *api.ProtectionStatus) bool {
		return len(s.Nodes) == 3 && s.Leader != "" && !s.Nodes[1].Manager && g != nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := managers(ctx, b, "h2"); !slices.Equal(got, []string{"h1", "h3"}) {
		t.Fatalf("managers: %v, %v; %+v", got, err, s.Nodes)
	}
	if text, err := b.Hamgr(ctx, "h2", "manager", "add", "h2"); err != nil {
		t.Fatal(text, err)
	}
	awaitManagers(t, b, "h1", "h1", "h2", "h3")
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// awaitManagers waits until a host has heard of a change that another decided.
func awaitManagers(t *testing.T, b *Bed, host string, want ...string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got, err := managers(t.Context(), b, host)
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("managers by the word of %s: %v instead of %v, %v", host, got, want, err)
		}
	}
}

// managers are those that a host knows of.
func managers(ctx context.Context, b *Bed, host string) (out []string, err error) {
	text, err := b.Host(host).Command(ctx, "/opt/hamgr/bin/hamgr", "manager", "list", "-o", "json").Output()
	var m api.Managers
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return nil, fmt.Errorf("manager list on %s: %s: %w", host, text, err)
	}
	for _, n := range m.Managers {
		out = append(out, n.Name)
	}
	return out, nil
}
