package colo

import (
	"strings"
	"testing"
)

// A real QEMU is probed by hamgr check in the end-to-end tests.
func TestProbeOfWhatIsNoQEMU(t *testing.T) {
	for _, emulator := range []string{"/bin/false", "/nonexistent"} {
		r, err := Probe(t.Context(), emulator, false)
		if err != nil || r.OK || r.Missing == "" || !strings.Contains(r.Advice, "QEMU") {
			t.Errorf("%s: %+v, %v", emulator, r, err)
		}
	}
}
