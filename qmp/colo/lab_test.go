package colo

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

// The tests of real QEMUs run inside a host of a lab, which this test binary is shown to:
// each is found by its name's beginning, and by a variable that says which QEMU it gets.
const (
	qemuVariable  = "HAMGR_TEST_QEMU"  // for TestReal...
	accelVariable = "HAMGR_TEST_ACCEL" // tcg if unset
	oldVariable   = "HAMGR_TEST_OLD"   // for TestOld...: a directory of lab.Old's
)

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

// TestInLab runs the tests of a QEMU that can do it all, on that of the lab's hosts.
func TestInLab(t *testing.T) {
	h := host(t)
	inside(t, h, "^TestReal", qemuVariable+"=/usr/bin/qemu-system-x86_64")
}

const (
	labTimeout = 5 * time.Minute
	selfDir    = "/opt/colo"
)

// host is one that has QEMU but no libvirtd: the lab's client. It ends with the test.
func host(t *testing.T, binds ...lab.Bind) *lab.Host {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a host and QEMUs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), labTimeout)
	t.Cleanup(cancel)
	p, err := lab.Prepare(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binds = append(binds, lab.Bind{From: filepath.Dir(self), To: selfDir})
	l, err := lab.Up(ctx, lab.Spec{Root: p.Root, RunDir: t.TempDir(), Binds: binds})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Down)
	return l.Host("client")
}

// inside runs tests of this binary on the host; each has to pass, and there has to be one.
func inside(t *testing.T, h *lab.Host, tests string, env ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"env"}, env...)
	args = append(args, filepath.Join(selfDir, filepath.Base(self)), "-test.run="+tests, "-test.v", "-test.timeout=4m")
	b, err := h.Command(t.Context(), args...).CombinedOutput()
	out := string(b)
	t.Logf("on %s:\n%s", h.Name, out)
	if err != nil || strings.Contains(out, "--- SKIP") || !strings.Contains(out, "--- PASS: Test") {
		t.Errorf("not all of the tests inside the lab ran and passed: %v", err)
	}
}
