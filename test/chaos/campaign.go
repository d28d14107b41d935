package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// steps are those of a run.
func (o *options) steps(n int) ([]step, error) {
	if o.schedule != "" {
		return readSchedule(o.schedule, o.use)
	}
	return draw(o.use, o.seed, n), nil
}

// campaign does the runs. The report is there in any case.
func (o *options) campaign(ctx context.Context, schedule func(run int) ([]step, error)) (r *report, err error) {
	r = newReport(*o, o.hosts, o.nodes)
	var w *world
	defer func() {
		if w != nil {
			w.Down()
		}
	}()
	for n := 1; n <= o.runs && len(r.Failed) < o.failures; n++ {
		if w == nil {
			if w, err = newWorld(ctx, *o, o.progress); err != nil {
				return r, err
			}
		}
		steps, err := schedule(n)
		if err != nil {
			return r, err
		}
		began := time.Now()
		v, err := w.once(ctx, n, o.seed, steps)
		if err != nil {
			return r, fmt.Errorf("run %d, %v: %w", n, steps, err)
		}
		if v.over() {
			v.Evidence = filepath.Join(o.out, fmt.Sprintf("run%d", n))
			if err := w.keep(v, v.Evidence); err != nil {
				fmt.Fprintln(o.progress, "not all evidence could be kept:", err)
			}
		}
		if v.over() || v.deaf {
			w.Down()
			w = nil
		}
		if v.over() {
			os.Rename(filepath.Join(o.out, "logs"), filepath.Join(v.Evidence, "logs")) // there are none if hosts never came up
		}
		r.add(v)
		fmt.Fprintf(o.progress, "%3d/%d %s; %.0f s\n", n, o.runs, v.line(), time.Since(began).Seconds())
		if err := r.write(o.out); err != nil {
			return r, err
		}
	}
	return r, nil
}
