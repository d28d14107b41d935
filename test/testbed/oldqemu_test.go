package testbed

import (
	"context"
	"strings"

	"github.com/hamgr/hamgr/test/guest/image"
	"github.com/hamgr/hamgr/test/lab"
)

// oldQEMUs: guests on Debian 12's QEMUs, under emulation. That these cannot be
// checkpointed is found out on a QEMU of the probe's own; the guests are not touched.
func (r refusals) oldQEMUs(ctx context.Context) {
	r.oldQEMU(ctx, lab.Bookworm, "QEMU 7.2.", "stops dead in checkpoint", "run the guest with KVM, or install QEMU 11.1 or newer")
	r.oldQEMU(ctx, lab.BookwormBackports, "QEMU 10.0.2 never gets into COLO", "install a QEMU with the fix of November 2025")
}

func (r refusals) oldQEMU(ctx context.Context, q lab.OldQEMU, says ...string) {
	r.Helper()
	const addr = "10.78.0.204"
	g := image.Guest{Name: "old", MemoryMiB: 128, MAC: "52:54:00:78:00:04", IP: addr + "/24", Dir: "/opt/hamgr/guest", Emulator: q.Emulator()}
	if err := r.Start(ctx, "h2", g); err != nil {
		r.Fatal(err)
	}
	before := r.exec("h2", "pgrep", "-f", "/usr/bin/qemu-system")
	out := r.refused(1, "old on h2 cannot be protected", "protect", "old")
	for _, say := range says {
		if !strings.Contains(out, say) {
			r.Errorf("%s: %q does not say %q", q, out, say)
		}
	}
	if after := r.exec("h2", "pgrep", "-f", "/usr/bin/qemu-system"); after != before || strings.Count(before, "\n") != 1 {
		r.Errorf("%s: QEMUs before: %s, after: %s", q, before, after)
	}
	r.untouched("h2", "old")
	if err := r.waitPing(ctx, addr); err != nil {
		r.Error(err)
	}
	r.script("h2", "virsh -q destroy old && virsh -q undefine old")
}

// untouched checks that a domain runs and that its QEMU was never told to migrate.
func (r refusals) untouched(host, domain string) {
	r.Helper()
	ask := func(command string) string {
		return r.exec(host, "virsh", "-q", "qemu-monitor-command", domain, `{"execute":"`+command+`"}`)
	}
	if s := ask("query-status"); !strings.Contains(s, `"status":"running"`) {
		r.Errorf("%s: %s", domain, s)
	}
	if s := ask("query-migrate"); !strings.Contains(s, `"return":{}`) {
		r.Errorf("%s has had a migration: %s", domain, s)
	}
	if s := ask("query-migrate-capabilities"); !strings.Contains(s, `{"state":false,"capability":"x-colo"}`) {
		r.Errorf("%s has COLO enabled: %s", domain, s)
	}
}

// exec is the output of a command on a host, which must succeed.
func (r refusals) exec(host string, args ...string) string {
	r.Helper()
	out, err := r.Host(host).Exec(r.Context(), args...)
	if err != nil {
		r.Fatal(err)
	}
	return out
}
