package testbed

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
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

// hostsVariable may say what most tests' hosts are: uml takes longer.
const hostsVariable = "HAMGR_TEST_HOSTS"

func up(t *testing.T) *Bed {
	t.Helper()
	return upWith(t, Options{Hosts: 3}, 3)
}

// upWith waits until so many nodes are alive.
func upWith(t *testing.T, o Options, nodes int) *Bed {
	t.Helper()
	before := mounts(t)
	if o.Kind == "" {
		o.Kind = lab.Kind(os.Getenv(hostsVariable))
	}
	o.Out, o.Progress = t.TempDir(), testLog{t}
	b, err := Up(t.Context(), o)
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
	if err := b.WaitNodes(t.Context(), nodes); err != nil {
		t.Fatal(err)
	}
	if o.Kind == lab.UML {
		if err := b.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
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
func TestHostLosesPower(t *testing.T) { losesPower(t, up(t)) }

// TestHostWithItsKernelLosesPower is make demo HOSTS=uml: the output waits in the kernel.
func TestHostWithItsKernelLosesPower(t *testing.T) {
	r := losesPower(t, upWith(t, Options{Hosts: 3, Kind: lab.UML}, 3))
	if r.Backend != "plug" {
		t.Errorf("the output buffer was %q", r.Backend)
	}
}

func losesPower(t *testing.T, b *Bed) Report {
	t.Helper()
	s := Scenario{Bed: b, Say: func(w string) { t.Log(w) }, Show: func(w string) { t.Log(w) }, Seed: 1}
	r, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verdict(); err != nil {
		t.Fatal(err)
	}
	return r
}

// protectedGuest starts g1 on h1 with a client and protects it.
func protectedGuest(t *testing.T, flags ...string) (*Bed, *Client) {
	t.Helper()
	return protectedGuestWith(t, Options{Hosts: 3}, flags...)
}

func protectedGuestWith(t *testing.T, o Options, flags ...string) (*Bed, *Client) {
	t.Helper()
	b := upWith(t, o, o.Hosts)
	ctx := t.Context()
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	c, err := b.StartClient(ctx, requestEvery, 1)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := b.Protect(ctx, "h1", "g1", flags...); err != nil {
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
	return protectedAfterAt(t, b, "h3", generation)
}

// protectedAfterAt is for when h3 may be the host that fails.
func protectedAfterAt(t *testing.T, b *Bed, asked string, generation uint64) api.ProtectionStatus {
	t.Helper()
	s, err := b.WaitStatus(t.Context(), asked, 40*time.Second, "protected again", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected && g.Generation > generation
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Protections[0]
}

// protectedNow is how g1 is protected before a test's failure: a busy machine may have had
// its backup suspected and replaced already.
func protectedNow(t *testing.T, b *Bed) api.ProtectionStatus {
	t.Helper()
	return protectedAfter(t, b, 0)
}

func kill(t *testing.T, b *Bed, host, name string) {
	t.Helper()
	signal(t, b, host, "-KILL", name)
}

// signal waits for a process by that name: it may be about to be started again.
func signal(t *testing.T, b *Bed, host, kind, name string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, err := b.Host(host).Exec(t.Context(), "pkill", kind, "-f", name)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(out, err)
		}
	}
}

// TestQEMUKilled also has the guest compare its memory, of which it rewrites a part all
// the time, with what it knows it to be.
func TestQEMUKilled(t *testing.T) {
	b, c := protectedGuest(t)
	for _, path := range []string{"/alloc?mb=24", "/dirty?pages_per_s=2000&mb=8"} {
		if out, err := b.Get(t.Context(), path); err != nil {
			t.Fatal(out, err)
		}
	}
	waitAnswers(t, c, 40)
	before := protectedNow(t, b)
	kill(t, b, "h1", "^/usr/bin/qemu-system-x86_64 -name guest=g1")
	p := protectedAfter(t, b, before.Generation)
	if p.Primary != before.Backup {
		t.Errorf("g1 is on %s, not on its backup %s", p.Primary, before.Backup)
	}
	// Again at once, and again: a host that has just lost its copy may be the next backup.
	for range 4 {
		kill(t, b, p.Primary, "^/usr/bin/qemu-system-x86_64 -name guest=g1")
		p = protectedAfter(t, b, p.Generation)
	}
	waitAnswers(t, c, 20)
	if out, err := b.Get(t.Context(), "/checksum"); err != nil || !strings.Contains(out, "pages") {
		t.Errorf("the guest's memory is not what it was: %s %v", out, err)
	} else {
		t.Logf("memory checked: %s", strings.TrimSpace(out))
	}
	verdict(t, b, c)
}

// TestQEMUHangs stops QEMU: its process lives, and the guest does not.
func TestQEMUHangs(t *testing.T) {
	b, c := protectedGuest(t)
	before := protectedNow(t, b)
	signal(t, b, "h1", "-STOP", "^/usr/bin/qemu-system-x86_64 -name guest=g1")
	if p := protectedAfter(t, b, before.Generation); p.Primary != before.Backup {
		t.Errorf("g1 is on %s, not on its backup %s", p.Primary, before.Backup)
	}
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// TestAgentKilled kills hamgr on the primary at random moments: the guest runs on where
// it is, and the next agent adopts it and protects it again.
func TestAgentKilled(t *testing.T) {
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 0))
	b, c := protectedGuest(t)
	generation := protectedNow(t, b).Generation
	for i := range 6 {
		moment := time.Duration(random.IntN(400)) * time.Millisecond // in the middle of a first copy, too
		time.Sleep(moment)
		kill(t, b, "h1", "^/opt/hamgr/bin/hamgr serve")
		if i%2 == 1 {
			continue // the next one comes while the guest is being adopted
		}
		p := protectedAfter(t, b, generation)
		t.Logf("round %d, after %v: %s -> %s, generation %d", i, moment, p.Primary, p.Backup, p.Generation)
		generation = p.Generation
		if p.Primary != "h1" {
			t.Fatalf("g1 moved to %s although only its agent was gone", p.Primary)
		}
		waitAnswers(t, c, 20)
	}
	protectedAfter(t, b, generation)
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// seedOf is the seed of a test's random part: HAMGR_SEED replays one.
func seedOf(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("HAMGR_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d; HAMGR_SEED replays it", seed)
	return seed
}

func TestBackupLosesPower(t *testing.T) {
	b, c := protectedGuest(t)
	before := protectedNow(t, b)
	if _, err := b.Host(before.Backup).PowerOff(); err != nil {
		t.Fatal(err)
	}
	p := protectedAfterAt(t, b, "h1", before.Generation)
	if p.Primary != "h1" || p.Backup == before.Backup {
		t.Errorf("%s -> %s instead of h1 -> the third host", p.Primary, p.Backup)
	}
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

// nothingLeft waits until the buffer's devices and filters are gone from h1.
func nothingLeft(t *testing.T, b *Bed) {
	t.Helper()
	script := `ip -o link | grep -E ": h[hrpviw][0-9a-f]{8}:"; for d in $(ls /sys/class/net); do tc filter show dev $d ingress | grep hamgr; tc qdisc show dev $d clsact; done; true`
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
