package domain

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

// uriVariable says which libvirt to test against; the tests of libvirt run where it is set.
const uriVariable = "HAMGR_TEST_LIBVIRT"

func TestMain(m *testing.M) {
	lab.Init()
	os.Exit(m.Run())
}

// TestInLab runs the tests of libvirt, those named TestLibvirt..., inside a host of a lab:
// they start and kill guests and libvirtd.
func TestInLab(t *testing.T) {
	if os.Getenv(uriVariable) != "" {
		t.Skip("inside the lab already")
	}
	if testing.Short() {
		t.Skip("starts a host with libvirtd, about half a minute")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	p, err := lab.Prepare(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(ctx, lab.Spec{Root: p.Root, RunDir: t.TempDir(), Hosts: 1, Binds: []lab.Bind{{From: filepath.Dir(self), To: "/opt/domain"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Down()
	out, err := l.Host("h1").Exec(ctx, "env", uriVariable+"=qemu:///system", "/opt/domain/"+filepath.Base(self), "-test.run=^TestLibvirt", "-test.v", "-test.timeout=4m")
	for line := range strings.Lines(out) {
		t.Log(strings.TrimRight(line, "\n"))
	}
	if err != nil {
		t.Fatal("the tests inside the lab failed")
	}
}
