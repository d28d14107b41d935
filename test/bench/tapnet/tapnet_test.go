package tapnet

import (
	"os"
	"slices"
	"testing"
	"time"
)

// TestWhatIsMeasured runs each measurement for a moment, through the relay and past it.
func TestWhatIsMeasured(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: network namespaces, TAPs and BPF filters")
	}
	for name, measure := range map[string]func(string, time.Duration, time.Duration) (Rate, error){"UDP": UDP, "TCP": TCP} {
		for _, backend := range []string{"", "relay"} {
			r, err := measure(backend, 5*time.Millisecond, 500*time.Millisecond)
			if err != nil || r.PerSecond < 1000 || r.Dropped > 0 {
				t.Errorf("%s, backend %q: %+v, %v", name, backend, r, err)
			}
		}
	}
	took, err := Release("relay", []int{10, 10, 10, 10, 10, 5000})
	if err != nil || len(took) != 6 || took[5] <= slices.Min(took[:5]) || slices.Min(took) <= 0 {
		t.Errorf("releases: %v, %v", took, err)
	}
	if r, err := UDP("no such buffer", time.Second, time.Second); err == nil {
		t.Errorf("%+v by a buffer that is not there", r)
	}
}
