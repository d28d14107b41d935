package testbed

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/test/lab"
)

// refusals checks that each mistake gets one clear error, with its exit code.
type refusals struct {
	*testing.T
	*Bed
	host string
}

func (r refusals) refused(exit int, say string, args ...string) (out string) {
	r.Helper()
	out, err := r.Hamgr(r.Context(), r.host, args...)
	for n := 0; n < 3 && exit != outcomeUnknown && exitStatus(err) == outcomeUnknown; n++ {
		out, err = r.Hamgr(r.Context(), r.host, args...)
	}
	if exitStatus(err) != exit || !strings.Contains(out, say) {
		r.Errorf("hamgr %v: %q, %v; want exit status %d and %q", args, out, err, exit, say)
	}
	if lines := strings.Count(strings.TrimSpace(out), "\n") + 1; lines > 2 {
		r.Errorf("hamgr %v says it in %d lines, not in one and an advice:\n%s", args, lines, out)
	}
	return out
}

// script runs a shell command on a host, which must succeed.
func (r refusals) script(host, text string) {
	r.Helper()
	r.exec(host, "sh", "-c", text)
}

// TestBadInput: each mistake gets one clear error and its exit code, and the guest runs
// on, untouched, with nothing of hamgr's left. h4 calls itself h1.
func TestBadInput(t *testing.T) {
	old, err := lab.PrepareOld(t.Context(), testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	b := upWith(t, Options{Hosts: 4, Binds: []lab.Bind{old}, Serve: func(args []string) []string {
		if slices.Contains(args, "h4") {
			args = append(args, "--node", "h1")
		}
		return args
	}}, 3)
	ctx := t.Context()
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	r := refusals{t, b, "h3"}
	r.commandLine()
	r.domains(ctx)
	r.oldQEMUs(ctx)
	r.backups()
	r.nodeNameTwice(ctx)
	if out, err := b.Protect(ctx, "h2", "g1"); err != nil {
		t.Fatal(out, err)
	}
	r.refused(4, "already protected", "protect", "g1")
	if out, err := b.Hamgr(ctx, "h2", "unprotect", "g1"); err != nil {
		t.Fatal(out, err)
	}
	r.managersOutOfReach()
	if err := b.waitPing(ctx, guestAddr); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, b)
}

func (r refusals) commandLine() {
	r.refused(2, "an epoch of", "protect", "g1", "--epoch", "1ms")
	r.refused(2, `no mode "fast"`, "protect", "g1", "--mode", "fast")
	r.refused(2, "unknown output", "status", "-o", "xml")
	r.refused(3, "not protected", "unprotect", "g1")
	r.refused(3, "not protected", "failover", "g1")
	r.refused(3, "not protected", "mode", "g1", "checkpoint")
	r.refused(5, "does not answer", "status", "--url", "http://10.77.0.3:1")
}

func (r refusals) domains(ctx context.Context) {
	r.refused(3, `no domain "nosuch"`, "protect", "nosuch")
	defineOff(ctx, r.T, r.Bed)
	r.refused(4, "shut off", "protect", "off")
}

func (r refusals) backups() {
	r.refused(3, `no node "h9"`, "protect", "g1", "--backup", "h9")
	r.refused(4, "cannot be its own backup", "protect", "g1", "--backup", "h1")
	r.script("h2", "mount -t tmpfs -o size=64m small /dev/shm/hamgr")
	r.refused(1, "the replica needs 144 MiB", "protect", "g1", "--backup", "h2")
	r.script("h2", "umount /dev/shm/hamgr")
	r.script("h2", `sed -e '/<uuid>/d' -e 's/52:54:00:78:00:01/52:54:00:78:00:03/' /opt/hamgr/guest/g1.xml > /tmp/g1.xml && virsh -q define /tmp/g1.xml`)
	r.refused(1, "another domain named g1", "protect", "g1", "--backup", "h2")
	r.script("h2", "virsh -q undefine g1")
}

func (r refusals) nodeNameTwice(ctx context.Context) {
	const say = "h1 is at 10.77.0.1, but addr says 10.77.0.4"
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		log, _ := os.ReadFile(r.Out + "/logs/h4/hamgr.log")
		if strings.Contains(string(log), say) {
			break
		}
		if time.Now().After(end) {
			r.Fatalf("h4 calls itself h1 and hears nothing of it:\n%s", log)
		}
	}
	s, err := r.Status(ctx, "h1")
	if err != nil || len(s.Nodes) != 3 {
		r.Errorf("%d nodes, %v", len(s.Nodes), err)
	}
}

// managersOutOfReach: without a majority nothing is begun.
func (r refusals) managersOutOfReach() {
	for _, h := range []string{"h2", "h3"} {
		if err := r.Host(h).Cut("mgmt"); err != nil {
			r.Fatal(err)
		}
	}
	_, err := r.WaitStatus(r.Context(), "h1", 10*time.Second, "nobody leads", func(s api.Status, _ *api.ProtectionStatus) bool { return s.Leader == "" })
	if err != nil {
		r.Fatal(err)
	}
	r.host = "h1"
	r.refused(5, "no manager leads", "protect", "g1")
	for _, h := range []string{"h2", "h3"} {
		if err := r.Host(h).Heal("mgmt"); err != nil {
			r.Fatal(err)
		}
	}
}
