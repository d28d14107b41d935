package colo

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

// TestOldInLab probes Debian 12's QEMUs in a host of a lab: what the probe is for.
func TestOldInLab(t *testing.T) {
	if testing.Short() {
		t.Skip("starts QEMUs in a host")
	}
	ctx, cancel := context.WithTimeout(t.Context(), labTimeout)
	defer cancel()
	old, err := lab.PrepareOld(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	h, tests := host(t, old), "^TestOld(TCG|LeavesNothing)$"
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Logf("7.2 with KVM is left out: %v", err)
	} else if _, err := h.Exec(ctx, "mknod", "/dev/kvm", "c", "10", "232"); err != nil {
		t.Fatal(err)
	} else {
		tests = "^TestOld(TCG|LeavesNothing|KVM)$"
	}
	inside(t, h, tests, oldVariable+"="+old.To)
}

func oldQEMU(t *testing.T, q lab.OldQEMU) string {
	t.Helper()
	if os.Getenv(oldVariable) == "" {
		t.Skip("runs inside the lab: TestOldInLab")
	}
	return q.Emulator()
}

// TestOldTCG: each gets the right reason and advice, before the time is up.
func TestOldTCG(t *testing.T) {
	for q, want := range map[lab.OldQEMU]struct{ version, missing, advice string }{
		lab.Bookworm:          {`^7\.2\.\d+$`, `^QEMU 7\.2\.\d+ stops dead in checkpoint \d+ under emulation \(TCG\)$`, adviceTCG},
		lab.BookwormBackports: {`^10\.0\.2$`, `^QEMU 10\.0\.2 never gets into COLO \(after the first copy it went to migration "completed", guest "(postmigrate|finish-migrate)"\)$`, adviceFixed},
	} {
		emulator := oldQEMU(t, q)
		t.Run(string(q), func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			r, err := Probe(t.Context(), emulator, false)
			took := time.Since(start)
			t.Logf("%v: %s", took, r.Missing)
			if err != nil || r.OK || r.Advice != want.advice || !matches(want.version, r.Version) || !matches(want.missing, r.Missing) {
				t.Errorf("%+v, %v", r, err)
			}
			if took > 3*probeTimeout { // one step takes so long and does not end, the others a second on an idle machine
				t.Errorf("took %v", took)
			}
		})
	}
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

// TestOldKVM: what stops dead under TCG is no worse than others with KVM.
func TestOldKVM(t *testing.T) {
	r, err := Probe(t.Context(), oldQEMU(t, lab.Bookworm), true)
	if err != nil || !r.OK || !strings.HasPrefix(r.Version, "7.2.") {
		t.Errorf("7.2: %+v, %v", r, err)
	}
	r, err = Probe(t.Context(), oldQEMU(t, lab.BookwormBackports), true)
	if err != nil || r.OK || r.Advice != adviceFixed {
		t.Errorf("10.0.2: %+v, %v", r, err)
	}
}

// TestOldLeavesNothing: of a QEMU that has to be killed no process, file or descriptor stays.
func TestOldLeavesNothing(t *testing.T) {
	emulator, left := oldQEMU(t, lab.Bookworm), leftovers(t)
	r, err := probe(t.Context(), emulator, false, 2*time.Second)
	if err != nil || r.OK || r.Version == "" {
		t.Errorf("%+v, %v", r, err)
	}
	if now := leftovers(t); now != left {
		t.Errorf("before:\n%s\nafter:\n%s", left, now)
	}
}

// leftovers lists this host's processes and temporary files, and this process's descriptors.
func leftovers(t *testing.T) string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"/proc/[0-9]*", "/tmp/*", "/var/tmp/*", "/run/*", "/dev/shm/*", "/proc/self/fd/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	return strings.Join(list, "\n")
}
