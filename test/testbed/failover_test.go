package testbed

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func up(t *testing.T) *Bed {
	t.Helper()
	before := mounts(t)
	b, err := Up(t.Context(), Options{Hosts: 3, Out: t.TempDir(), Progress: testLog{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range b.hosts {
				log, _ := os.ReadFile(b.Out + "/logs/" + h + "/hamgr.log")
				t.Logf("%s:\n%s", h, log[max(0, len(log)-4000):])
			}
		}
		b.Down()
		if after := mounts(t); after != before {
			t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
		}
	})
	return b
}

func mounts(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestHostLosesPower is the whole path, as make demo shows it.
func TestHostLosesPower(t *testing.T) {
	s := Scenario{Bed: up(t), Say: func(w string) { t.Log(w) }, Show: func(w string) { t.Log(w) }, Seed: 1}
	r, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verdict(); err != nil {
		t.Fatal(err)
	}
}

// protectedGuest starts g1 on h1 with a client and protects it.
func protectedGuest(t *testing.T) (*Bed, *Client) {
	t.Helper()
	b := up(t)
	ctx := t.Context()
	if err := b.WaitCluster(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	c, err := b.StartClient(ctx, requestEvery, 1)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := b.Hamgr(ctx, "h1", "protect", "g1"); err != nil {
		t.Fatal(text, err)
	}
	waitAnswers(t, c, 20)
	return b, c
}

func waitAnswers(t *testing.T, c *Client, more int) {
	t.Helper()
	want := len(c.Samples()) + more
	for end := time.Now().Add(30 * time.Second); len(c.Samples()) < want; {
		if c.Failed() || time.Now().After(end) {
			t.Fatalf("the client got %d of %d answers: %+v", len(c.Samples()), want, c.result)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// verdict ends the client; nothing may be lost, rolled back or reset.
func verdict(t *testing.T, b *Bed, c *Client) {
	t.Helper()
	r, err := c.Stop(b)
	if err != nil || r.TCPReset || r.Lost > 0 || r.RolledBack > 0 || r.Error != "" {
		t.Fatalf("client: %+v, %v", r, err)
	}
}

func protectedAfter(t *testing.T, b *Bed, generation uint64) api.ProtectionStatus {
	t.Helper()
	s, err := b.WaitStatus(t.Context(), "h3", 40*time.Second, "protected again", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected && g.Generation > generation
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Protections[0]
}

func kill(t *testing.T, b *Bed, host, name string) {
	t.Helper()
	if out, err := b.Host(host).Exec(t.Context(), "pkill", "-KILL", "-f", name); err != nil {
		t.Fatal(out, err)
	}
}

func TestQEMUKilled(t *testing.T) {
	b, c := protectedGuest(t)
	kill(t, b, "h1", "^/usr/bin/qemu-system-x86_64 -name guest=g1")
	p := protectedAfter(t, b, 1)
	if p.Primary != "h2" {
		t.Errorf("g1 is on %s, not on its backup h2", p.Primary)
	}
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// TestAgentKilled kills hamgr on the primary: the guest runs on where it is, and the
// next agent protects it again.
func TestAgentKilled(t *testing.T) {
	b, c := protectedGuest(t)
	generation := uint64(1)
	for i := range 3 {
		kill(t, b, "h1", "^/opt/hamgr/bin/hamgr serve")
		p := protectedAfter(t, b, generation)
		t.Logf("round %d: %s -> %s, generation %d", i, p.Primary, p.Backup, p.Generation)
		generation = p.Generation
		if p.Primary != "h1" {
			t.Fatalf("g1 moved to %s although only its agent was gone", p.Primary)
		}
		waitAnswers(t, c, 20)
	}
	verdict(t, b, c)
}

func TestBackupLosesPower(t *testing.T) {
	b, c := protectedGuest(t)
	if _, err := b.Host("h2").PowerOff(); err != nil {
		t.Fatal(err)
	}
	p := protectedAfter(t, b, 1)
	if p.Primary != "h1" || p.Backup != "h3" {
		t.Errorf("%s -> %s instead of h1 -> h3", p.Primary, p.Backup)
	}
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// TestBadInput: each mistake gets one clear error and its exit code, and the guest runs on.
func TestBadInput(t *testing.T) {
	b := up(t)
	ctx := t.Context()
	if err := b.WaitCluster(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	refused := func(exit int, say string, args ...string) {
		t.Helper()
		out, err := b.Hamgr(ctx, "h3", args...)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint("exit status ", exit)) || !strings.Contains(out, say) {
			t.Errorf("hamgr %v: %q, %v; want exit status %d and %q", args, out, err, exit, say)
		}
	}
	refused(3, `no domain "nosuch"`, "protect", "nosuch")
	refused(3, `no node "h9"`, "protect", "g1", "--backup", "h9")
	refused(4, "cannot be its own backup", "protect", "g1", "--backup", "h1")
	refused(2, "an epoch of", "protect", "g1", "--epoch", "1ms")
	refused(3, "not protected", "unprotect", "g1")
	refused(3, "not protected", "failover", "g1")
	refused(5, "does not answer", "status", "--url", "http://10.77.0.3:1")
	refused(2, "unknown output", "status", "-o", "xml")
	defineOff(ctx, t, b)
	refused(4, "shut off", "protect", "off")
	if out, err := b.Hamgr(ctx, "h2", "protect", "g1"); err != nil {
		t.Fatal(out, err)
	}
	refused(4, "already protected", "protect", "g1")
	if out, err := b.Hamgr(ctx, "h2", "unprotect", "g1"); err != nil {
		t.Fatal(out, err)
	}
	if err := b.waitPing(ctx); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, b)
}

// nothingLeft waits until the buffer's devices and filters are gone from h1.
func nothingLeft(t *testing.T, b *Bed) {
	t.Helper()
	script := `ip -o link | grep -E ": h[hr][0-9a-f]{8}:"; for d in $(ls /sys/class/net); do tc filter show dev $d ingress | grep hamgr; done; true`
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left, err := b.Host("h1").Exec(t.Context(), "sh", "-c", script)
		if err == nil && left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left on h1: %s %v", left, err)
		}
	}
}

func defineOff(ctx context.Context, t *testing.T, b *Bed) {
	t.Helper()
	script := `virsh dumpxml --inactive g1 | sed -e 's/>g1</>off</' -e '/<uuid>/d' -e 's/52:54:00:78:00:01/52:54:00:78:00:02/' > /tmp/off.xml && virsh -q define /tmp/off.xml`
	if out, err := b.Host("h1").Exec(ctx, "sh", "-c", script); err != nil {
		t.Fatal(out, err)
	}
}
