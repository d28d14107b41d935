package testbed

import (
	"encoding/json"
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/hamgr/hamgr/test/guest/client"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Quantiles of a time in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Report is what a scenario measured. Times in milliseconds.
type Report struct {
	QEMU      string    `json:"qemu"`
	Libvirt   string    `json:"libvirt"`
	Backend   string    `json:"buffer_backend"`
	EpochMS   float64   `json:"epoch_ms"`
	PauseMS   Quantiles `json:"pause_ms"`
	CommitMS  Quantiles `json:"commit_ms"`
	LatencyMS struct {
		UnprotectedP50 float64 `json:"unprotected_p50"`
		ProtectedP50   float64 `json:"protected_p50"`
	} `json:"latency_ms"`
	DetectMS    float64 `json:"detect_ms"`  // power-off to the cluster's decision
	RestoreMS   float64 `json:"restore_ms"` // decision to the guest running
	OutageMS    float64 `json:"outage_ms"`  // longest time the client had no answer
	TCPReset    bool    `json:"tcp_reset"`
	Lost        int     `json:"ledger_lost"`
	RolledBack  int     `json:"ledger_rolled_back"`
	Reprotected bool    `json:"reprotected"`
	ReprotectMS float64 `json:"reprotect_ms"` // guest running to protected again
	AlarmMS     float64 `json:"alarm_ms"`     // decision to the inspector
	Requests    int     `json:"requests"`
	ClientError string  `json:"client_error,omitempty"`

	samples []client.Sample
	marks   []Mark
}

// Mark is a moment worth a line in the picture.
type Mark struct {
	Name string
	At   time.Time
}

// Verdict is nil when the promise was kept.
func (r Report) Verdict() error {
	if r.TCPReset || r.Lost > 0 || r.RolledBack > 0 || !r.Reprotected || r.ClientError != "" {
		return fmt.Errorf("the promise was broken: reset %v, lost %d, rolled back %d, protected again %v %s", r.TCPReset, r.Lost, r.RolledBack, r.Reprotected, r.ClientError)
	}
	return nil
}

// Table is the report for people.
func (r Report) Table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(what, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, args...)) }
	row("QEMU, libvirt, buffer", "%s, %s, %s", r.QEMU, r.Libvirt, r.Backend)
	row("latency, median", "%.1f ms unprotected, %.1f ms protected (epochs of %.0f ms)", r.LatencyMS.UnprotectedP50, r.LatencyMS.ProtectedP50, r.EpochMS)
	row("pause per checkpoint", "%.1f ms median, %.1f ms p99", r.PauseMS.P50, r.PauseMS.P99)
	row("power-off to decision", "%.0f ms", r.DetectMS)
	row("decision to running", "%.0f ms", r.RestoreMS)
	row("outage the client saw", "%.0f ms", r.OutageMS)
	row("protected again after", "%.0f ms", r.ReprotectMS)
	row("inspector told after", "%.0f ms", r.AlarmMS)
	row("requests", "%d: %d lost, %d rolled back, connection reset: %v", r.Requests, r.Lost, r.RolledBack, r.TCPReset)
}

// Write puts report.json and timeline.png into dir.
func (r Report) Write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return Timeline(filepath.Join(dir, "timeline.png"), "latency of each request over one TCP connection", r.samples, r.marks)
}

// Timeline draws the latency of each request, and the marks, as a PNG. Without requests
// there is nothing to draw.
func Timeline(path, title string, samples []client.Sample, marks []Mark) error {
	if len(samples) == 0 {
		return nil
	}
	zero := samples[0].Sent
	points := make(plotter.XYs, len(samples))
	for i, s := range samples {
		points[i] = plotter.XY{X: s.Sent.Sub(zero).Seconds(), Y: max(ms(s.Latency), 0.1)}
	}
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text, p.Y.Label.Text = "seconds", "milliseconds"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	dots, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: color.RGBA{30, 90, 160, 255}, Radius: vg.Points(1.5), Shape: draw.CircleGlyph{}}
	p.Add(dots)
	for i, m := range marks {
		if err := addMark(p, m, zero, 2000/float64(i%8+1)); err != nil {
			return err
		}
	}
	p.Y.Max = 3000
	return p.Save(10*vg.Inch, 5*vg.Inch, path)
}

func addMark(p *plot.Plot, m Mark, zero time.Time, y float64) error {
	x := m.At.Sub(zero).Seconds()
	line, err := plotter.NewLine(plotter.XYs{{X: x, Y: 0.1}, {X: x, Y: 3000}})
	if err != nil {
		return err
	}
	line.Color = color.RGBA{200, 40, 40, 255}
	label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{" " + m.Name}})
	if err != nil {
		return err
	}
	p.Add(line, label)
	return nil
}
