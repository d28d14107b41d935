package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hamgr/hamgr/test/machine"
)

// Report is the result of one section.
type Report struct {
	Section  string            `json:"section"`
	Began    time.Time         `json:"began"`
	Seconds  float64           `json:"took_s"`
	Machine  machine.Machine   `json:"machine"`
	Versions map[string]string `json:"versions"`
	Figures  []Figure          `json:"figures"`
	Error    string            `json:"error,omitempty"` // why figures are missing
}

// Figure is one thing measured.
type Figure struct {
	Name    string             `json:"name"`
	Value   float64            `json:"value"`
	Unit    string             `json:"unit"`
	Target  *Target            `json:"target,omitempty"` // none: reported only
	OK      *bool              `json:"ok,omitempty"`     // with a target: whether it was reached
	Samples int                `json:"samples"`          // what Value was taken from; How says which
	Parts   map[string]float64 `json:"parts,omitempty"`  // what it consists of, in the same unit if their names say no other
	How     string             `json:"how"`
}

// Target is a bound that a value must keep.
type Target struct {
	AtMost  *float64 `json:"at_most,omitempty"`
	AtLeast *float64 `json:"at_least,omitempty"`
}

// AtMost is a target from above.
func AtMost(v float64) *Target { return &Target{AtMost: &v} }

// AtLeast is a target from below.
func AtLeast(v float64) *Target { return &Target{AtLeast: &v} }

func (t *Target) met(v float64) bool {
	return (t.AtMost == nil || v <= *t.AtMost) && (t.AtLeast == nil || v >= *t.AtLeast)
}

func (t *Target) String() string {
	switch {
	case t == nil:
		return ""
	case t.AtMost != nil:
		return "at most " + number(*t.AtMost)
	default:
		return "at least " + number(*t.AtLeast)
	}
}

// NewReport begins one, on this machine.
func NewReport(section string) *Report {
	return &Report{Section: section, Began: time.Now().Round(time.Second), Machine: machine.This(),
		Versions: map[string]string{"go": runtime.Version(), "commit": machine.Commit()}}
}

// Add takes a figure in and judges it. One without samples, or that is no number, was not
// measured: an error.
func (r *Report) Add(f Figure) error {
	if f.Samples == 0 || math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
		return fmt.Errorf("%s: not measured (%v from %d samples)", f.Name, f.Value, f.Samples)
	}
	if f.Target != nil {
		ok := f.Target.met(f.Value)
		f.OK = &ok
	}
	r.Figures = append(r.Figures, f)
	return nil
}

// Write puts the report into dir, as <section>.json.
func (r *Report) Write(dir string) error {
	r.Seconds = math.Round(time.Since(r.Began).Seconds())
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Section+".json"), append(data, '\n'), 0o644)
}

// Table is the report for people.
func (r *Report) Table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintf(t, "FIGURE\tVALUE\tTARGET\tSAMPLES\n")
	for _, f := range r.Figures {
		fmt.Fprintf(t, "%s\t%s %s\t%s%s\t%d\n", f.Name, number(f.Value), f.Unit, f.Target, verdict(f), f.Samples)
	}
}

func verdict(f Figure) string {
	if f.OK == nil || *f.OK {
		return ""
	}
	return "  MISSED"
}

// number has three digits, and no more than it needs.
func number(v float64) string {
	if math.Abs(v) >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// missed names the targets that were not reached.
func (r *Report) missed() error {
	var list []string
	for _, f := range r.Figures {
		if f.OK != nil && !*f.OK {
			list = append(list, fmt.Sprintf("%s is %s %s, %s", f.Name, number(f.Value), f.Unit, f.Target))
		}
	}
	if list == nil {
		return nil
	}
	return fmt.Errorf("targets missed: %s", strings.Join(list, "; "))
}
