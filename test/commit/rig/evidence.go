package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
)

const traceFile = "trace.jsonl"

// Traces are what all nodes have traced.
func (r *Rig) Traces() (all []trace.Event, err error) {
	for _, h := range Hosts {
		for _, name := range []string{traceFile + ".1", traceFile} {
			f, err := os.Open(filepath.Join(r.Out, "logs", h, name))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			events, err := trace.Read(f)
			f.Close()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", h, err)
			}
			all = append(all, events...)
		}
	}
	return all, nil
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
	o := commit.Options{Domain: "g1", From: from, Faults: r.faults}
	for _, n := range nics {
		o.MACs = append(o.MACs, n.MAC)
	}
	return o
}

// Forget frees what checks that begin at an instant do not need.
func (r *Rig) Forget(from time.Time) { r.recorder.Forget(from.Add(-before)) }

// Save keeps the capture from an instant on and all traces in a directory, for commitcheck.
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
	for _, h := range Hosts {
		data, e := os.ReadFile(filepath.Join(r.Out, "logs", h, traceFile))
		if e == nil {
			e = os.WriteFile(filepath.Join(dir, h+"-"+traceFile), data, 0o644)
		}
		err = errors.Join(err, e)
	}
	return err
}
