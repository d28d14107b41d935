package rig

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/lab"
)

// clocks is by how much two clocks may differ: each is known within its error.
func (r *Rig) clocks() time.Duration {
	var most time.Duration
	for _, h := range r.Nodes() {
		for _, k := range r.recorder.Kernels(h) {
			most = max(most, 2*k.Error)
		}
	}
	return most
}

// On hosts with kernels of their own, all on the few cores of this machine.
const (
	slowWay    = 25 * time.Millisecond
	slowAnswer = 10 * time.Second
)

// Answer is within what time a request is answered that is not lost. A check judges those that
// had it, and the next one the others, but for those of before a Mutate.
func (r *Rig) Answer() time.Duration {
	if r.kind == lab.UML {
		return slowAnswer
	}
	return commit.DefaultAnswer
}

// before is what of a capture a check needs from before it begins to judge: longer than
// any frame is held.
const before = 15 * time.Second

// Check judges all from an instant on.
func (r *Rig) Check(from time.Time) (commit.Report, error) {
	frames, err := r.recorder.Frames(from.Add(-before))
	if err != nil {
		return commit.Report{}, err
	}
	events, err := r.Traces()
	if err != nil {
		return commit.Report{}, err
	}
	return commit.Check(frames, events, r.options(from)), nil
}

func (r *Rig) options(from time.Time) commit.Options {
	o := commit.Options{Domain: "g1", From: from, Asked: r.mutated, Faults: r.faults, Clocks: r.clocks(), Answer: r.Answer()}
	if r.kind == lab.UML {
		o.Way = slowWay
	}
	for _, n := range nics {
		o.MACs = append(o.MACs, n.MAC)
	}
	return o
}

// Forget frees what checks that begin at an instant do not need.
func (r *Rig) Forget(from time.Time) {
	from = from.Add(-before)
	r.recorder.Forget(from)
	from = from.Add(-before) // the first epochs of a capture began earlier
	r.traces.forget(from)
	r.faults = slices.DeleteFunc(r.faults, func(f commit.Fault) bool { return f.Until.Before(from) })
}

// Save keeps the evidence from an instant on in a directory, for commitcheck.
func (r *Rig) Save(dir string, from time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	frames, missing := r.recorder.Frames(from.Add(-before))
	f, err := os.Create(filepath.Join(dir, "frames.pcapng"))
	if err != nil {
		return err
	}
	err = errors.Join(missing, commit.Save(f, frames), f.Close())
	events, e := r.Traces()
	return errors.Join(err, e, saveTraces(filepath.Join(dir, traceFile), events), r.options(from).Save(filepath.Join(dir, "options.json")))
}

func saveTraces(file string, events []trace.Event) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
