package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/commit/rig"
	"github.com/hamgr/hamgr/test/lab"
)

// world is a lab with a guest, and what was seen of it so far. One that has lost its guest,
// or in which something is wrong, is replaced by a new one.
type world struct {
	*rig.Rig
	labKind lab.Kind
	history history
	place   place // where the ledger stood after the last run
	bound   time.Duration
}

const (
	requestEvery = 25 * time.Millisecond // of each of the eight flows
	gaveUp       = 12 * time.Second      // lost for so long, a guest does not come back: core.LostAfter, and a little
	settle       = time.Second           // after the last fault, for what it may lead to
)

// newWorld brings hosts up, with the guest protected.
func newWorld(ctx context.Context, o options, progress io.Writer) (*world, error) {
	w := &world{labKind: lab.Kind(o.hosts), bound: o.bound}
	var err error
	w.Rig, err = rig.Up(ctx, rig.Options{Kind: w.labKind, Out: o.out, Progress: progress, Nodes: o.nodes, Each: w.history.add, Mutants: o.mutant != ""})
	if err != nil {
		return nil, err
	}
	text, err := w.Hamgr(ctx, "h1", "protect", "g1")
	if err == nil && o.mutant != "" {
		err = w.Mutate(ctx, o.mutant)
	}
	if err != nil {
		w.Down()
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return w, nil
}

func (w *world) hosts() []string { return w.Nodes() }
func (w *world) kind() string    { return string(w.labKind) }

func (w *world) run(ctx context.Context, host, script string) (string, error) {
	return runScript(w.Host(host).Command(ctx, "sh", "-s"), host, script)
}

func (w *world) powerOff(_ context.Context, host string) error { return w.PowerOff(host) }
func (w *world) powerOn(_ context.Context, host string) error  { return w.Boot(host) }

func (w *world) now() (standing, error) {
	e, err := w.Order()
	return standingOf(e), err
}

// once lets one schedule happen to a guest that is well, and judges all since. An error
// says that no verdict can be given.
func (w *world) once(ctx context.Context, n int, seed uint64, steps []step) (v verdict, err error) {
	v = verdict{Run: n, Steps: steps}
	if err := w.WaitCluster(ctx); err != nil { // hosts that were booted are back
		v.Unserved = "before the run: " + err.Error()
		return v, nil
	}
	l, err := w.Load(requestEvery, seed+uint64(n))
	if err != nil {
		return v, err
	}
	defer l.Abort()
	v.from = time.Now()
	if why := w.well(ctx, l); why != nil {
		v.Unserved = "before the run: " + why.Error()
		return v, nil
	}
	in := injector{executor: w, site: labSite, now: w.now, id: fmt.Sprintf("run%d", n)}
	if v.Faults, err = in.inject(ctx, steps); err != nil {
		return v, err
	}
	stopped := time.Now()
	if err := sleep(ctx, settle); err != nil {
		return v, err
	}
	why := w.well(ctx, l)
	v.RecoveryMS = ms(time.Since(stopped))
	flows := l.Abort
	if why == nil {
		flows = l.Stop
	}
	return v, w.judge(&v, flows(), why)
}

// errLost says that the guest is given up.
var errLost = errors.New("the cluster says that the guest is lost")

// well waits until the guest is protected and answers every client.
func (w *world) well(ctx context.Context, l *load.Load) error {
	ctx, cancel := context.WithTimeout(ctx, w.bound)
	defer cancel()
	if err := protected(ctx, w.now, look); err != nil {
		return err
	}
	if err := l.Answered(ctx, 3); err != nil {
		return err
	}
	return protected(ctx, w.now, look) // still, or again
}

// protected waits until the guest is, or is given up.
func protected(ctx context.Context, now func() (standing, error), every time.Duration) error {
	began := time.Now()
	var lost time.Time
	for {
		o, err := now()
		switch {
		case err == nil && o.Phase == core.Protected:
			return nil
		case o.Phase != core.Lost:
			lost = time.Time{}
		case lost.IsZero():
			lost = time.Now()
		case time.Since(lost) > gaveUp:
			return errLost
		}
		if sleep(ctx, every) != nil {
			return fmt.Errorf("not protected within %.0f s: %s on %s (%v)", time.Since(began).Seconds(), o.Phase, o.Primary, err)
		}
	}
}

// judge fills in a verdict. why is what kept the guest from being well again.
func (w *world) judge(v *verdict, flows []load.Result, why error) error {
	v.asks = w.history.take()
	events, err := w.Traces()
	if err != nil {
		return err
	}
	v.story = story(events)
	v.excused(why)
	v.outageSeen()
	for _, f := range flows {
		if f.Error != "" && why == nil {
			v.broken("client %s: %s", f.Flow, f.Error)
		}
	}
	r, end := linearize(w.place, v.asks)
	w.place = end
	switch r {
	case porcupine.Illegal:
		v.broken("no single ledger could have given these answers")
	case porcupine.Unknown:
		v.Unjudged = append(v.Unjudged, "the ledger's history takes too long to check")
	}
	if v.jumped() { // what a host traced and heard is by a clock that was set
		v.Unjudged = append(v.Unjudged, "frames: a clock was set")
		return nil
	}
	rep, err := w.Check(v.from)
	w.Forget(v.from)
	if err != nil {
		v.Unjudged = append(v.Unjudged, err.Error())
		v.deaf = true
		return nil
	}
	v.frames(rep)
	return nil
}

// keep saves the evidence of a run.
func (w *world) keep(v verdict, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(w.Save(dir, v.from), v.plot(filepath.Join(dir, "timeline.png")))
}
