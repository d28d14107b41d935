package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/commit/rig"
)

// result is report.json. Times in milliseconds.
type result struct {
	Runs       int             `json:"runs"` // done
	Seed       uint64          `json:"seed"`
	Hosts      string          `json:"hosts"`
	CPUs       int             `json:"cpus"`
	QEMU       string          `json:"qemu"`
	Backend    string          `json:"buffer_backend"`
	Violations int             `json:"violations"`
	Kinds      map[string]kind `json:"kinds"`
	Failed     *failed         `json:"failed,omitempty"`
	Checkpoint rollbacks       `json:"checkpoint_mode"` // after the runs, without held output
	Sum        commit.Report   `json:"sum"`             // of the runs
}

// kind is what became of all faults of a kind.
type kind struct {
	Runs    int     `json:"runs"`
	Moved   int     `json:"restores"`
	Silence silence `json:"silence_ms"` // longest time without a frame of the guest's, per run

	values []float64
}

type silence struct {
	P50 float64 `json:"p50"`
	Max float64 `json:"max"`
}

// failed is the run that ended the campaign.
type failed struct {
	Run   int    `json:"run"`
	Kind  string `json:"kind"`
	Cause string `json:"cause"`
}

type rollbacks struct {
	Failovers      int `json:"failovers"`
	Frames         int `json:"frames_rolled_back"`
	Contradictions int `json:"contradictions"`
}

func (b *rollbacks) add(rep commit.Report) {
	b.Failovers += rep.Restores
	b.Frames += rep.RolledBackFrames
	b.Contradictions += rep.Rollbacks
}

func newResult(ctx context.Context, o options, r *rig.Rig) result {
	out := result{Seed: o.seed, Hosts: o.hosts, CPUs: runtime.NumCPU(), Kinds: map[string]kind{}}
	q, _ := r.Host("h1").Exec(ctx, "qemu-system-x86_64", "--version")
	if f := strings.Fields(q); len(f) > 3 {
		out.QEMU = f[3]
	}
	return out
}

func (r *result) count(rep commit.Report) {
	for _, n := range rep.Count {
		r.Violations += n
	}
}

func (r *result) add(name string, rep commit.Report) {
	r.Runs++
	r.count(rep)
	k := r.Kinds[name]
	k.Runs++
	k.Moved += rep.Restores
	k.values = append(k.values, rep.Silence)
	slices.Sort(k.values)
	k.Silence = silence{k.values[len(k.values)/2], k.values[len(k.values)-1]}
	r.Kinds[name] = k
}

// write puts report.json and commit.png into dir.
func (r result) write(dir string, sum commit.Report) error {
	r.Sum = sum
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return sum.Plot(filepath.Join(dir, "commit.png"))
}

// table is the result for people.
func (r result) table(w io.Writer, sum commit.Report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(what, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	for name, k := range r.Kinds {
		row(name, "%d runs, %d restores, silent for %.0f ms (median), %.0f ms at most", k.Runs, k.Moved, k.Silence.P50, k.Silence.Max)
	}
	row("violations", "%d", r.Violations)
	row("frames held", "%d in %d epochs; %v", sum.Held, sum.Epochs, sum.Protocols)
	row("held for", "%.1f ms median, %.1f ms p99; %.2f ms of it after the commit", sum.Hold.P50, sum.Hold.P99, sum.After.P50)
	row("frames in a burst", "%.0f median, %.0f p99, within %.2f ms", sum.Burst.P50, sum.Burst.P99, sum.Spread.P99)
	row("UDP requests", "%d sent; without an answer: %d reached nobody, %d answers were lost, %d as a session began, %d as QEMU stopped a guest that was slow to take them",
		sum.UDP.Sent, sum.UDP.Nobody, sum.UDP.Withheld, sum.UDP.Starting, sum.UDP.AtStop)
	row("mode buffer", "%d failovers, %d frames rolled back, %d contradictions", sum.Restores, sum.RolledBackFrames, sum.Rollbacks)
	row("mode checkpoint", "%d failovers, %d frames rolled back, %d contradictions", r.Checkpoint.Failovers, r.Checkpoint.Frames, r.Checkpoint.Contradictions)
}
