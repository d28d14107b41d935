package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hamgr/hamgr/test/sim"
)

func read(t *testing.T, dir string) *report {
	t.Helper()
	var r report
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestReport(t *testing.T) {
	o := options{first: 7, seeds: 300, workers: 2, out: filepath.Join(t.TempDir(), "sim")}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r := read(t, o.out)
	if r.Seed != 7 || r.Schedules != 300 || r.Violations+r.Unserved != 0 || len(r.Faults) < 15 || r.Failovers == 0 ||
		r.Seconds <= 0 || r.Machine.Cores == 0 || len(r.Failures) > 0 {
		t.Errorf("%+v", r)
	}
}

// TestFailure: what fails is kept, fails again from its file, and is told.
func TestFailure(t *testing.T) {
	o := options{seeds: 300, workers: 1, mutant: sim.ReleaseOnError, out: t.TempDir()}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r := read(t, o.out)
	if r.Violations != 1 || len(r.Failures) != 1 || r.Failures[0].Check != "I1" {
		t.Fatalf("%+v", r)
	}
	o.replay = r.Failures[0].File
	if err := run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "I1") {
		t.Errorf("played again, the failure is: %v", err)
	}
	story, err := os.ReadFile(strings.TrimSuffix(o.replay, ".json") + ".txt")
	for _, part := range []string{"FAULT", "FOUND    I1: ", "Built in on purpose: release-on-error."} {
		if err != nil || !strings.Contains(string(story), part) {
			t.Errorf("no %q in the story (%v):\n%s", part, err, story)
		}
	}
	o.mutant = sim.NoMutant
	if err := run(t.Context(), o); err != nil {
		t.Errorf("without the mistake, it is: %v", err)
	}
}

func TestRefused(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"hosts": 9, "managers": 3}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), options{replay: bad}); err == nil || !strings.Contains(err.Error(), "9 hosts") {
		t.Errorf("a schedule of nine hosts: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := run(ctx, options{seeds: 1000, workers: 1, out: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("a search that was stopped: %v", err)
	}
	if err := new(options).setMutant("none-such"); err == nil {
		t.Error("an unknown mutant is taken")
	}
}
