package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/commit/load"
)

const (
	requestEvery = 25 * time.Millisecond // of each of the eight flows
	gaveUp       = 12 * time.Second      // lost for so long, a guest does not come back: core.LostAfter, and a little
	settle       = time.Second           // after the last fault, for what it may lead to
)

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
	after, err := w.clientsAfter(ctx, l, v.from, seed+uint64(n))
	if err != nil {
		return v, err
	}
	defer after.Abort()
	why := w.well(ctx, after)
	v.RecoveryMS = ms(time.Since(stopped))
	flows := after.Abort
	if why == nil {
		flows = after.Stop
	}
	return v, w.judge(&v, flows(), why)
}

// clientsAfter are those that a run ends with: the same, or others, when it is over, if the
// guest has moved with nothing held. That leaves connections behind that nobody can go on with.
func (w *world) clientsAfter(ctx context.Context, before *load.Load, from time.Time, seed uint64) (*load.Load, error) {
	if !w.rollsBack() {
		return before, nil
	}
	over, cancel := context.WithTimeout(ctx, w.bound)
	defer cancel()
	_ = protected(over, w.now, look) // well says what is wrong
	events, err := w.Traces()
	if err != nil || failovers(story(events), from) == 0 {
		return before, err
	}
	before.Abort()
	return w.Load(requestEvery, seed)
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
	w.answers(v)
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

// answers judges what all clients were told together.
func (w *world) answers(v *verdict) {
	if v.Moved > 0 && w.rollsBack() {
		v.Unjudged = append(v.Unjudged, "answers: the guest moved, and nothing was held")
		w.place = place{}
		return
	}
	r, end := linearize(w.place, v.asks)
	w.place = end
	switch r {
	case porcupine.Illegal:
		v.broken("no single ledger could have given these answers")
	case porcupine.Unknown:
		v.Unjudged = append(v.Unjudged, "the ledger's history takes too long to check")
	}
}

// keep saves the evidence of a run.
func (w *world) keep(v verdict, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(w.Save(dir, v.from), v.plot(filepath.Join(dir, "timeline.png")))
}
