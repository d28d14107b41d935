package testbed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestManagersLoseTheirDisks: hamgr ends everywhere and its data with it, while a client is
// at work. The guest runs on, is protected again from a state that was saved before its
// last failover, and outlives its host once more.
func TestManagersLoseTheirDisks(t *testing.T) {
	b, c := protectedGuest(t)
	ctx := t.Context()
	const file = "/tmp/state.json"
	if text, err := b.Hamgr(ctx, "h3", "state", "save", file); err != nil {
		t.Fatal(text, err)
	}
	before := protectedNow(t, b)
	if text, err := b.Hamgr(ctx, "h3", "failover", "g1"); err != nil { // the file is old from here on
		t.Fatal(text, err)
	}
	owner := protectedAfter(t, b, before.Generation).Primary
	waitAnswers(t, c, 20)
	pid := qemu(t, b, owner)
	wipe(t, b)
	if err := b.WaitCluster(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err := b.Status(ctx, "h3"); err != nil || len(s.Protections) > 0 {
		t.Fatalf("the disks were not lost: %+v %v", s, err)
	}
	if text, err := b.Hamgr(ctx, "h3", "state", "restore", file); err != nil || !strings.Contains(text, "g1 is on "+owner) {
		t.Fatal(text, err)
	}
	p := protectedAfter(t, b, core.Era)
	if p.Primary != owner {
		t.Errorf("g1 is on %s", p.Primary)
	}
	waitAnswers(t, c, 20)
	if now := qemu(t, b, owner); now != pid {
		t.Errorf("the guest was started anew: its QEMU was %s, and is %s", pid, now)
	}
	if text, err := b.Hamgr(ctx, "h3", "state", "restore", file); err == nil || !strings.Contains(text, "protects g1 already") {
		t.Error(text, err)
	}
	if _, err := b.Host(p.Primary).PowerOff(); err != nil {
		t.Fatal(err)
	}
	_, err := b.WaitStatus(ctx, p.Backup, 40*time.Second, "g1 on its backup", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Primary == p.Backup && g.Phase != core.Recovering && g.Generation > p.Generation
	})
	if err != nil {
		t.Fatal(err)
	}
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// TestRestoreOfATimeBefore: the saved state has the guest on h1, where a copy of it waits
// still, as h1 was cut off when it was given to h2. All is lost before h1 hears of that.
func TestRestoreOfATimeBefore(t *testing.T) {
	b, c := protectedGuest(t)
	ctx := t.Context()
	const file = "/tmp/state.json"
	if text, err := b.Hamgr(ctx, "h3", "state", "save", file); err != nil {
		t.Fatal(text, err)
	}
	before := protectedNow(t, b)
	if err := b.Host("h1").CutAll(); err != nil {
		t.Fatal(err)
	}
	owner := protectedAfter(t, b, before.Generation).Primary
	if owner != before.Backup {
		t.Fatalf("g1 is on %s", owner)
	}
	waitAnswers(t, c, 20)
	former := qemu(t, b, "h1")
	wipe(t, b)
	for _, network := range []string{"mgmt", "guest"} {
		if err := b.Host("h1").Heal(network); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.WaitCluster(ctx); err != nil {
		t.Fatal(err)
	}
	if text, err := b.Hamgr(ctx, "h3", "state", "restore", file); err != nil || !strings.Contains(text, "g1 is on "+owner) {
		t.Fatal(text, err)
	}
	if p := protectedAfter(t, b, core.Era); p.Primary != owner {
		t.Errorf("g1 is on %s", p.Primary)
	}
	waitAnswers(t, c, 20)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := b.Host("h1").Exec(ctx, "kill", "-0", former); err != nil {
			break // a standby there is another process
		}
		if time.Now().After(end) {
			t.Fatalf("the copy of a former time is on h1 still, process %s", former)
		}
	}
	verdict(t, b, c)
}

func qemu(t *testing.T, b *Bed, host string) string {
	t.Helper()
	pid, err := b.Host(host).Exec(t.Context(), "pgrep", "-f", "^/usr/bin/qemu-system-x86_64 -name guest=g1")
	if err != nil {
		t.Fatal(pid, err)
	}
	return strings.TrimSpace(pid)
}

// wipe ends hamgr on all hosts, for as long as its program is away, and takes its data.
func wipe(t *testing.T, b *Bed) {
	t.Helper()
	program := filepath.Join(b.Out, "bin", "hamgr")
	if err := os.Rename(program, program+".away"); err != nil {
		t.Fatal(err)
	}
	for _, h := range b.hosts {
		kill(t, b, h, "^/opt/hamgr/bin/hamgr serve")
	}
	for _, h := range b.hosts {
		if text, err := b.Host(h).Exec(t.Context(), "find", DataDir, "-mindepth", "1", "-delete"); err != nil {
			t.Fatal(text, err)
		}
	}
	if err := os.Rename(program+".away", program); err != nil {
		t.Fatal(err)
	}
}
