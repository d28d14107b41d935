// Package labtest runs the tests of a package on a host of a lab: they see that host's
// kernel, and what they leave behind goes with it.
package labtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

// Variable is set, to the host's kind, where a test runs on a host of a lab.
const Variable = "HAMGR_TEST_ON"

const (
	limit   = 6 * time.Minute
	selfDir = "/opt/test"
)

// On says whether this is a host of that kind.
func On(kind lab.Kind) bool { return os.Getenv(Variable) == string(kind) }

// Run runs all tests of this test binary but the calling one on a new host of that kind.
// The program's TestMain has to begin with lab.Init. A test that skips there fails here:
// the host has what they need. With -short the calling test is skipped.
func Run(t *testing.T, kind lab.Kind, env ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("makes a lab")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p, err := lab.Prepare(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// Tests read their testdata from where their package's source is.
	binds := []lab.Bind{{From: filepath.Dir(self), To: selfDir}, {From: dir, To: dir}}
	l, err := lab.Up(ctx, lab.Spec{Root: p.Root, RunDir: t.TempDir(), Hosts: 1, Kind: kind, Binds: binds})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Down()
	args := append([]string{"env", "-C", dir, Variable + "=" + string(kind)}, env...)
	args = append(args, filepath.Join(selfDir, filepath.Base(self)), "-test.skip=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	b, err := l.Host("h1").Command(ctx, args...).CombinedOutput()
	out := string(b)
	t.Logf("on a host of kind %s:\n%s", kind, out)
	if err != nil || strings.Contains(out, "--- SKIP") || !strings.Contains(out, "--- PASS: Test") {
		t.Errorf("not all tests ran and passed on a host of kind %s: %v", kind, err)
	}
}
