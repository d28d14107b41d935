package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// orders is the newest that any node knows of what the cluster wants, out of their
// traces: asking the nodes themselves costs them more time than they may have.
type orders struct {
	newest trace.Event
	read   map[string]int64 // of each trace, octets
}

// Protected waits until g1 is protected, in a generation above the given one, and tells
// by which hosts.
func (r *Rig) Protected(ctx context.Context, above uint64, limit time.Duration) (trace.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		o, err := r.Order()
		if err == nil && o.Phase == string(core.Protected) && o.Generation > above {
			return o, nil
		}
		select {
		case <-ctx.Done():
			return o, fmt.Errorf("not protected above generation %d within %s; last known: %s, generation %d, on %s (%v)", above, limit, o.Phase, o.Generation, o.Primary, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Order is the newest, out of all traces.
func (r *Rig) Order() (trace.Event, error) {
	for _, h := range r.Nodes() {
		if err := r.readOn(h, filepath.Join(r.Out, "logs", h, traceFile)); err != nil {
			return r.orders.newest, err
		}
		for i, k := range r.recorder.Kernels(h) {
			name := fmt.Sprint(h, i)
			r.orders.read[name] += r.orders.take(k.Trace[r.orders.read[name]:])
		}
	}
	return r.orders.newest, nil
}

func (r *Rig) readOn(host, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // a kernel of its own keeps it, or it has not begun
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < r.orders.read[host] { // turned over
		r.orders.read[host] = 0
	}
	data, err := io.ReadAll(io.NewSectionReader(f, r.orders.read[host], st.Size()-r.orders.read[host]))
	r.orders.read[host] += r.orders.take(data)
	return err
}

// take reads whole lines and says how much that was.
func (o *orders) take(data []byte) int64 {
	end := bytes.LastIndexByte(data, '\n') + 1
	for line := range bytes.Lines(data[:end]) {
		var e trace.Event
		if bytes.Contains(line, []byte(trace.Order)) && json.Unmarshal(line, &e) == nil && e.Kind == trace.Order && e.Index >= o.newest.Index {
			o.newest = e
		}
	}
	return int64(end)
}
