package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAddRefusesWhatWasNotMeasured(t *testing.T) {
	r := NewReport("x")
	for name, f := range map[string]Figure{
		"no samples":   {Name: "a", Value: 0},
		"not a number": {Name: "b", Value: math.NaN(), Samples: 3},
		"divided by 0": {Name: "c", Value: math.Inf(1), Samples: 3},
	} {
		if err := r.Add(f); err == nil || !strings.Contains(err.Error(), f.Name+": not measured") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(r.Figures) != 0 {
		t.Errorf("taken in: %+v", r.Figures)
	}
}

func TestTargets(t *testing.T) {
	r := NewReport("x")
	for _, f := range []Figure{
		{Name: "at the limit", Value: 1.3, Target: AtMost(1.3), Samples: 1},
		{Name: "above", Value: 1.31, Unit: "x", Target: AtMost(1.3), Samples: 1},
		{Name: "below", Value: 40, Unit: "%", Target: AtLeast(50), Samples: 1},
		{Name: "enough", Value: 50, Target: AtLeast(50), Samples: 1},
		{Name: "only reported", Value: 0, Samples: 1},
	} {
		if err := r.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	want := "targets missed: above is 1.31 x, at most 1.3; below is 40 %, at least 50"
	if err := r.missed(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if r.Figures[4].OK != nil {
		t.Error("a figure without a target was judged")
	}
	var b strings.Builder
	r.Table(&b)
	if n := strings.Count(b.String(), "MISSED"); n != 2 {
		t.Errorf("%d of 2 missed in\n%s", n, &b)
	}
}

// TestWrite: the file says where it was measured and what the error was.
func TestWrite(t *testing.T) {
	r, dir := NewReport("x"), t.TempDir()
	r.Error = "the lab did not start"
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	m := got.Machine
	if got.Error != r.Error || m.Cores == 0 || m.Kernel == "" || m.MemoryMiB == 0 || m.Load == "" || !strings.HasPrefix(got.Versions["go"], "go") {
		t.Errorf("%s", text)
	}
}

func TestQuantiles(t *testing.T) {
	list := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 1: 4, 0.34: 2} {
		if got := quantile(list, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if m := median(list); m != 2.5 {
		t.Errorf("median %v", m)
	}
	if !math.IsNaN(median(nil)) || !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("the median of nothing is a number")
	}
}

func TestUnknownSection(t *testing.T) {
	if err := measure(t.Context(), "path,nosuch", t.TempDir()); err == nil || !strings.Contains(err.Error(), `no section "nosuch"`) {
		t.Errorf("%v", err)
	}
}
