package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// TestRollingUpgrade replaces hamgr node by node under a client that loses nothing: each
// node is emptied, gets the new program, and is used again.
func TestRollingUpgrade(t *testing.T) {
	b, c := protectedGuest(t)
	ctx := t.Context()
	next := filepath.Join(b.Out, "bin", "hamgr.next")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "libvirt_dlopen", "-ldflags", "-X main.release=next", "-o", next, "github.com/hamgr/hamgr/cmd/hamgr")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := os.Rename(next, filepath.Join(b.Out, "bin", "hamgr")); err != nil { // those that run keep what they run
		t.Fatal(err)
	}
	for _, h := range b.hosts {
		if text, err := b.Tell(ctx, h, "drain", h); err != nil {
			t.Fatal(text, err)
		}
		kill(t, b, h, "^/opt/hamgr/bin/hamgr serve")
		_, err := b.WaitStatus(ctx, h, time.Minute, h+" upgraded, all alive, g1 protected", func(s api.Status, g *api.ProtectionStatus) bool {
			for _, n := range s.Nodes {
				if n.State != "alive" || n.Name == h && n.Version != "next" {
					return false
				}
			}
			return len(s.Nodes) == 3 && s.Leader != "" && g != nil && g.Phase == core.Protected && g.Primary != h && g.Backup != h
		})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := b.Tell(ctx, h, "undrain", h); err != nil {
			t.Fatal(text, err)
		}
		waitAnswers(t, c, 20)
	}
	verdict(t, b, c)
}
