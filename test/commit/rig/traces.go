package rig

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/lab"
)

const traceFile = "trace.jsonl"

// traces are what all nodes have traced, by our clock, as far as it was read.
type traces struct {
	events []trace.Event
	newest trace.Event // of the orders: asking the nodes themselves costs them more time than they may have
	files  map[string]*commit.Tail
	read   map[string]int // of each kernel's trace, octets
}

func newTraces(dir string, hosts []string) *traces {
	t := &traces{files: map[string]*commit.Tail{}, read: map[string]int{}}
	for _, h := range hosts {
		t.files[h] = &commit.Tail{Path: filepath.Join(dir, h, traceFile)}
	}
	return t
}

// Traces are what all nodes have traced, by our clock; of what happens in every epoch,
// what Forget has left.
func (r *Rig) Traces() ([]trace.Event, error) {
	err := r.readTraces()
	return r.traces.events, err
}

// Order is the newest that any node knows of.
func (r *Rig) Order() (trace.Event, error) {
	err := r.readTraces()
	return r.traces.newest, err
}

// readTraces reads on in all traces.
func (r *Rig) readTraces() error {
	for _, h := range r.Nodes() {
		if r.kind != lab.UML {
			if err := r.traces.take(r.traces.files[h].More(), 0); err != nil {
				return fmt.Errorf("%s: %w", h, err)
			}
			continue
		}
		for i, k := range r.recorder.Kernels(h) {
			name := fmt.Sprint(h, i)
			more := k.Trace[r.traces.read[name]:]
			more = more[:bytes.LastIndexByte(more, '\n')+1]
			r.traces.read[name] += len(more)
			if err := r.traces.take(more, k.Ahead); err != nil {
				return fmt.Errorf("%s: %w", h, err)
			}
		}
	}
	return nil
}

// take reads whole lines, written by a clock that is ahead of ours.
func (t *traces) take(lines []byte, ahead time.Duration) error {
	events, err := trace.Read(bytes.NewReader(lines))
	if err != nil {
		return err
	}
	for _, e := range events {
		e.Time = e.Time.Add(-ahead)
		if !e.Asked.IsZero() {
			e.Asked = e.Asked.Add(-ahead)
		}
		t.events = append(t.events, e)
		if e.Kind == trace.Order && e.Index >= t.newest.Index {
			t.newest = e
		}
	}
	return nil
}

// forget drops what happens in every epoch and was before an instant.
func (t *traces) forget(before time.Time) {
	t.events = slices.DeleteFunc(t.events, func(e trace.Event) bool {
		switch e.Kind {
		case trace.Boundary, trace.Committed, trace.Acked, trace.Released:
			return e.Time.Before(before)
		}
		return false
	})
}

func (t *traces) close() {
	for _, f := range t.files {
		f.Close()
	}
}

// Protected waits until g1 is protected, in a generation above the given one, and tells
// by which hosts.
func (r *Rig) Protected(ctx context.Context, above uint64, limit time.Duration) (trace.Event, error) {
	return r.ordered(ctx, limit, fmt.Sprint("protected above generation ", above), func(o trace.Event) bool {
		return o.Phase == string(core.Protected) && o.Generation > above
	})
}

// Left waits until another host has g1.
func (r *Rig) Left(ctx context.Context, host string) error {
	_, err := r.ordered(ctx, r.Patience(), "away from "+host, func(o trace.Event) bool { return o.Primary != host })
	return err
}

// ordered waits for what the cluster wants to be as ok wants it.
func (r *Rig) ordered(ctx context.Context, limit time.Duration, what string, ok func(trace.Event) bool) (trace.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		o, err := r.Order()
		if err == nil && ok(o) {
			return o, nil
		}
		select {
		case <-ctx.Done():
			return o, fmt.Errorf("not %s within %s; last known: %s, generation %d, on %s (%v)", what, limit, o.Phase, o.Generation, o.Primary, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
