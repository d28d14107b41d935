package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hamgr/hamgr/test/machine"
	"github.com/hamgr/hamgr/test/sim"
)

// told is how many failures are shrunk and told; all are counted.
const told = 5

// report is report.json.
type report struct {
	Seed    uint64          `json:"seed"`  // the first
	Asked   uint64          `json:"seeds"` // how many were to be played
	Mutant  sim.Mutant      `json:"mutant,omitempty"`
	Began   time.Time       `json:"began"`
	Seconds float64         `json:"seconds"`
	Workers int             `json:"workers"`
	Machine machine.Machine `json:"machine"`
	Commit  string          `json:"commit"`
	sim.Stats
	Failures []failure `json:"failures,omitempty"` // the first few

	out    string
	stop   bool
	start  time.Time
	failed atomic.Int64
}

// failure is a schedule that failed.
type failure struct {
	Seed  uint64 `json:"seed"`
	Check string `json:"check"`
	What  string `json:"what"`
	File  string `json:"file"` // the schedule, made small; its story is beside it, as .txt
}

func newReport(o options) *report {
	now := time.Now()
	return &report{Seed: o.first, Asked: o.seeds, Mutant: o.mutant, Began: now.Round(time.Second), Workers: o.workers,
		Machine: machine.This(), Commit: machine.Commit(), out: o.out, stop: o.stop, start: now}
}

// found keeps a failure. A search for a mutant ends with the first that breaks an invariant:
// that a guest is left unserved is not what mutants are about.
func (r *report) found(s sim.Schedule, v *sim.Violation) (stop bool) {
	if r.Mutant != sim.NoMutant && v.Check == sim.Unserved {
		return false
	}
	fmt.Fprintf(os.Stderr, "seed %d: %v\n", s.Seed, v)
	if r.failed.Add(1) <= told {
		f, err := r.keep(s, v)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sim: a failure could not be kept:", err)
		}
		r.Failures = append(r.Failures, f)
	}
	return r.stop || r.Mutant != sim.NoMutant
}

// keep makes a failure small, and writes down how it goes.
func (r *report) keep(s sim.Schedule, v *sim.Violation) (failure, error) {
	f := failure{Seed: s.Seed, Check: v.Check, What: v.What, File: filepath.Join(r.out, fmt.Sprintf("seed-%d.json", s.Seed))}
	small, _ := sim.Shrink(s, r.Mutant)
	var story strings.Builder
	sim.Tell(&story, small, r.Mutant)
	fmt.Println(story.String())
	text, err := json.MarshalIndent(small, "", "  ")
	if err != nil {
		return f, err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return f, err
	}
	if err := os.WriteFile(f.File, append(text, '\n'), 0o644); err != nil {
		return f, err
	}
	return f, os.WriteFile(strings.TrimSuffix(f.File, ".json")+".txt", []byte(story.String()), 0o644)
}

func (r *report) progress(done uint64) string {
	took := time.Since(r.start)
	left := time.Duration(float64(took) / float64(max(done, 1)) * float64(r.Asked-done))
	return fmt.Sprintf("%d of %d schedules, %.0f a second, %v left, %d failures", done, r.Asked,
		float64(done)/took.Seconds(), left.Round(time.Second), r.failed.Load())
}

func (r *report) write(sum sim.Stats) error {
	r.Stats, r.Seconds = sum, time.Since(r.start).Seconds()
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	r.table(os.Stdout)
	return os.WriteFile(filepath.Join(r.out, "report.json"), append(text, '\n'), 0o644)
}

// table is the result for people.
func (r *report) table(w io.Writer) {
	faults := int64(0)
	for _, n := range r.Faults {
		faults += n
	}
	fmt.Fprintf(w, "%d schedules, seeds %d to %d, in %.1f s: %.1f hours, %d faults\n", r.Schedules, r.Seed,
		r.Seed+uint64(r.Schedules)-1, r.Seconds, r.Simulated.Hours(), faults)
	fmt.Fprintf(w, "%d failovers, %d of them planned, %d times solo, %d rollbacks in mode checkpoint\n", r.Failovers, r.Moves, r.Solos, r.Rollbacks)
	fmt.Fprintf(w, "%d guests lost with their memory, %d of them given to a backup that lost it at that moment\n", r.Lost, r.Forsaken)

	fmt.Fprintf(w, "all was well again at the latest %.1f s after the last fault\n", r.Slowest.Seconds())
	fmt.Fprintf(w, "%d violations, %d unserved\n", r.Violations, r.Unserved)
}

// verdict is nil if nothing was found where nothing was to be found, or a mutant was.
func (r *report) verdict(sum sim.Stats) error {
	n := sum.Violations + sum.Unserved
	switch {
	case r.Mutant != sim.NoMutant && sum.Violations == 0:
		return fmt.Errorf("the mistake %s was not found in %d schedules", r.Mutant, sum.Schedules)
	case r.Mutant == sim.NoMutant && n > 0:
		return fmt.Errorf("%d of %d schedules failed; stories and schedules in %s", n, sum.Schedules, r.out)
	case uint64(sum.Schedules) < r.Asked && r.Mutant == sim.NoMutant:
		return fmt.Errorf("interrupted after %d of %d schedules", sum.Schedules, r.Asked)
	}
	return nil
}
