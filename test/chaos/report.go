package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
)

// report is report.json. Times in milliseconds.
type report struct {
	Runs       int               `json:"runs"` // done and judged
	Seed       uint64            `json:"seed"`
	Hosts      string            `json:"hosts"`
	Nodes      int               `json:"nodes"`
	CPUs       int               `json:"cpus"`
	Violations int               `json:"violations"`
	Unserved   int               `json:"unserved"`
	Lost       int               `json:"lost"`     // as primary and backup failed together
	Unjudged   int               `json:"unjudged"` // runs of which not everything could be checked
	Failovers  int               `json:"failovers"`
	Requests   int               `json:"requests"`
	Faults     map[string]*tally `json:"faults"`
	OutageMS   percentiles       `json:"outage_ms"`
	RecoveryMS percentiles       `json:"recovery_ms"`
	Failed     []verdict         `json:"failed"`  // each with its evidence
	Notable    []verdict         `json:"notable"` // lost, or not wholly judged

	outages, recoveries []float64
}

// tally is what became of all faults of a name: those that were done, and could not be.
type tally struct {
	Done     int         `json:"done"`
	Missed   int         `json:"missed,omitempty"`
	Why      string      `json:"missed_why,omitempty"` // the last
	OutageMS percentiles `json:"outage_ms"`            // of runs with no other fault

	outages []float64
}

// percentiles of some values.
type percentiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func percentilesOf(values []float64) percentiles {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n == 0 {
		return percentiles{}
	}
	at := func(q float64) float64 { return v[int(q*float64(n-1))] }
	return percentiles{n, at(0.5), at(0.9), at(0.99), v[n-1]}
}

func newReport(o options, kind string, nodes int) *report {
	return &report{Seed: o.seed, Hosts: kind, Nodes: nodes, CPUs: runtime.NumCPU(), Faults: map[string]*tally{}, Failed: []verdict{}, Notable: []verdict{}}
}

func (r *report) add(v verdict) {
	r.Runs++
	r.Violations += v.Count
	r.Failovers += v.Moved
	r.Requests += v.Requests
	for _, d := range v.Faults {
		t := r.Faults[d.Fault]
		if t == nil {
			t = &tally{}
			r.Faults[d.Fault] = t
		}
		if d.Missed != "" {
			t.Missed++
			t.Why = d.Missed
			continue
		}
		t.Done++
		if len(v.Faults) == 1 && !v.over() {
			t.outages = append(t.outages, v.OutageMS)
			t.OutageMS = percentilesOf(t.outages)
		}
	}
	switch {
	case v.bad():
		r.Failed = append(r.Failed, v)
		if v.Unserved != "" {
			r.Unserved++
		}
	case v.Lost:
		r.Lost++
		r.Notable = append(r.Notable, v)
	default:
		r.outages, r.recoveries = append(r.outages, v.OutageMS), append(r.recoveries, v.RecoveryMS)
		r.OutageMS, r.RecoveryMS = percentilesOf(r.outages), percentilesOf(r.recoveries)
	}
	if len(v.Unjudged) > 0 {
		r.Unjudged++
		r.Notable = append(r.Notable, v)
	}
}

// err is nil when every promise was kept.
func (r *report) err() error {
	if r.Violations > 0 || r.Unserved > 0 {
		return fmt.Errorf("%d violations, %d runs after which the guest was not served", r.Violations, r.Unserved)
	}
	return nil
}

func (r *report) write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644)
}

// table is the report for people.
func (r *report) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintf(t, "FAULT\tDONE\tNOT DONE\tNO ANSWER, MEDIAN\tLONGEST\n")
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		f := r.Faults[name]
		fmt.Fprintf(t, "%s\t%d\t%d\t%.0f ms\t%.0f ms\n", name, f.Done, f.Missed, f.OutageMS.P50, f.OutageMS.Max)
	}
	fmt.Fprintf(t, "\n%d runs on %d %s hosts, seed %d: %d violations, %d unserved, %d lost with both copies, %d not wholly judged\n",
		r.Runs, r.Nodes, r.Hosts, r.Seed, r.Violations, r.Unserved, r.Lost, r.Unjudged)
	fmt.Fprintf(t, "no answer for %.0f ms in the median, %.0f ms p99; %d failovers, %d requests\n", r.OutageMS.P50, r.OutageMS.P99, r.Failovers, r.Requests)
}
