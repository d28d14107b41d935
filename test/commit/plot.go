package commit

import (
	"image/color"
	"os"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

var (
	blue = color.RGBA{30, 90, 160, 255}
	red  = color.RGBA{200, 40, 40, 255}
)

// Plot draws, as a PNG, how long frames were held: each of them over time, and their
// distribution; and how many left in each burst.
func (r *Report) Plot(path string) error {
	zero := time.Time{}
	for _, p := range r.holds {
		if zero.IsZero() || p.at.Before(zero) {
			zero = p.at
		}
	}
	panels := make([][]*plot.Plot, 3)
	for i, f := range []func(time.Time) (*plot.Plot, error){r.plotHolds, r.plotShare, r.plotBursts} {
		p, err := f(zero)
		if err != nil {
			return err
		}
		panels[i] = []*plot.Plot{p}
	}
	img := vgimg.New(10*vg.Inch, 12*vg.Inch)
	canvas := draw.New(img)
	tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadTop: vg.Points(4), PadBottom: vg.Points(4), PadRight: vg.Points(12), PadY: vg.Points(12)}
	for i, c := range plot.Align(panels, tiles, canvas) {
		panels[i][0].Draw(c[0])
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = vgimg.PngCanvas{Canvas: img}.WriteTo(f)
	return err
}

func (r *Report) plotHolds(zero time.Time) (*plot.Plot, error) {
	p := newPlot("how long each frame was held, and what broke a promise (red)", "seconds", "milliseconds")
	if err := scatter(p, r.holds, zero, blue); err != nil {
		return nil, err
	}
	var broken []point
	for _, v := range r.Violations {
		broken = append(broken, point{v.Time, 0})
	}
	return p, scatter(p, broken, zero, red)
}

// plotShare is the cumulative distribution: the share of frames held for at most x.
func (r *Report) plotShare(time.Time) (*plot.Plot, error) {
	p := newPlot("share of frames that were held for at most", "milliseconds", "share")
	sorted := slices.Sorted(slices.Values(values(r.holds)))
	line := make(plotter.XYs, len(sorted))
	for i, v := range sorted {
		line[i] = plotter.XY{X: v, Y: float64(i+1) / float64(len(sorted))}
	}
	if len(line) == 0 {
		return p, nil
	}
	l, err := plotter.NewLine(line)
	if err != nil {
		return nil, err
	}
	l.Color = blue
	p.Add(l)
	return p, nil
}

func (r *Report) plotBursts(zero time.Time) (*plot.Plot, error) {
	p := newPlot("frames that left with each epoch", "seconds", "frames")
	return p, scatter(p, r.bursts, zero, blue)
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Y.Min = 0
	return p
}

func scatter(p *plot.Plot, points []point, zero time.Time, c color.Color) error {
	if len(points) == 0 {
		return nil
	}
	xy := make(plotter.XYs, len(points))
	for i, v := range points {
		xy[i] = plotter.XY{X: v.at.Sub(zero).Seconds(), Y: v.value}
	}
	s, err := plotter.NewScatter(xy)
	if err != nil {
		return err
	}
	s.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(1.5), Shape: draw.CircleGlyph{}}
	p.Add(s)
	return nil
}
