package colo

import (
	"context"
	"os"
	"testing"
)

// TestProbeRealQEMU runs where HAMGR_TEST_QEMU names an emulator; the lab's tests set it.
func TestProbeRealQEMU(t *testing.T) {
	emulator := os.Getenv("HAMGR_TEST_QEMU")
	if emulator == "" {
		t.Skip("HAMGR_TEST_QEMU is not set: make test runs this inside a lab host")
	}
	r, err := Probe(context.Background(), emulator, false)
	if err != nil || !r.OK {
		t.Fatalf("probe: %+v, %v", r, err)
	}
}
