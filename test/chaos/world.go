package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/commit/rig"
	"github.com/hamgr/hamgr/test/lab"
)

// world is a lab with a guest, and what was seen of it so far. One that has lost its guest,
// or in which something is wrong, is replaced by a new one.
type world struct {
	*rig.Rig
	labKind lab.Kind
	history history
	place   place         // where the ledger stood after the last run
	bound   time.Duration // until when it must be well again after the faults
}

// newWorld brings hosts up, with the guest protected.
func newWorld(ctx context.Context, o options, progress io.Writer) (*world, error) {
	w := &world{labKind: lab.Kind(o.hosts), bound: o.bound}
	var err error
	w.Rig, err = rig.Up(ctx, rig.Options{Kind: w.labKind, Out: o.out, Progress: progress, Nodes: o.nodes, Each: w.history.add, Mutants: o.mutants})
	if err != nil {
		return nil, err
	}
	text, err := w.Bed.Protect(ctx, "h1", "g1", strings.Fields(o.protect)...)
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

// rollsBack says that a failover may take back what clients were told: nothing is held.
func (w *world) rollsBack() bool {
	o, err := w.Order()
	return err == nil && o.Mode == string(core.Checkpoint)
}
