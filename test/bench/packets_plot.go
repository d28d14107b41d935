package main

import (
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// curve is what some requests took, in ms.
type curve struct {
	name   string
	values []float64
}

var curveColors = []color.Color{color.Gray{100}, color.RGBA{30, 90, 160, 255}, color.RGBA{200, 40, 40, 255}}

// drawCDF draws cumulative distributions as NFV-REL 002, Annex A, Figure A.3 does: y % of
// the requests took x or less.
func drawCDF(path string, curves []curve) error {
	p := plot.New()
	p.Title.Text = "latency of requests over TCP"
	p.X.Label.Text, p.Y.Label.Text = "milliseconds", "share, %"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min, p.Y.Max = 0, 100
	p.Legend.Top, p.Legend.Left = true, true
	for i, c := range curves {
		if len(c.values) == 0 {
			return fmt.Errorf("%s: nothing to draw", c.name)
		}
		sorted := slices.Sorted(slices.Values(c.values))
		xy := make(plotter.XYs, len(sorted))
		for j, v := range sorted {
			xy[j] = plotter.XY{X: max(v, 0.01), Y: 100 * float64(j+1) / float64(len(sorted))}
		}
		l, err := plotter.NewLine(xy)
		if err != nil {
			return err
		}
		l.Color, l.Width = curveColors[i%len(curveColors)], vg.Points(1.5)
		p.Add(l)
		p.Legend.Add(c.name, l)
	}
	p.Add(plotter.NewGrid())
	return p.Save(8*vg.Inch, 5*vg.Inch, path)
}
