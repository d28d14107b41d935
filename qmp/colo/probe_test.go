package colo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProbeStuck: a program that does not speak is given up on, and ended.
func TestProbeStuck(t *testing.T) {
	mute := filepath.Join(t.TempDir(), "mute")
	if err := os.WriteFile(mute, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r, err := probe(t.Context(), mute, false, 200*time.Millisecond)
	if err != nil || r.OK || !strings.Contains(r.Missing, "does not come up") {
		t.Errorf("%+v, %v", r, err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
