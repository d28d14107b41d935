package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

// machine is the replicated state. Raft's one applying goroutine writes, anybody reads:
// a published State is never written again (see core.Apply).
type machine struct {
	state atomic.Pointer[core.State]
	first map[string]string // the managers of snapshots by versions that did not change them
	// applied hears of each event, on Raft's goroutine; it must not block.
	applied func(index uint64, e core.Event)

	mu       sync.Mutex // guards watchers
	watchers map[chan struct{}]struct{}
}

func newMachine(first map[string]string, applied func(uint64, core.Event)) *machine {
	m := &machine{first: first, applied: applied, watchers: map[chan struct{}]struct{}{}}
	m.state.Store(&core.State{})
	return m
}

// Apply is raft.FSM's: nil, or the error of core.Apply for the proposer.
func (m *machine) Apply(l *raft.Log) any {
	var c core.Command
	if err := json.Unmarshal(l.Data, &c); err != nil {
		return fmt.Errorf("%w: log entry %d: %w", core.ErrBadCommand, l.Index, err)
	}
	old := m.state.Load()
	next := *old
	err := core.Apply(&next, l.Index, c)
	m.publish(&next)
	if err != nil {
		return err
	}
	if n := len(next.Events); n > 0 && next.Events[n-1].Index == l.Index {
		m.applied(l.Index, next.Events[n-1])
	}
	return nil
}

func (m *machine) publish(s *core.State) {
	m.state.Store(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	for ch := range m.watchers {
		pulse(ch)
	}
}

// pulse leaves at most one pulse waiting in ch, a channel of capacity 1.
func pulse(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (m *machine) watch() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[ch] = struct{}{}
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, ch)
	}
}

// Snapshot is raft.FSM's.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return snapshot{m.state.Load()}, nil }

// Restore is raft.FSM's.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	var s core.State
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return fmt.Errorf("cluster: snapshot: %w", err)
	}
	if len(s.Managers) == 0 {
		s.Managers = m.first
	}
	m.publish(&s)
	return nil
}

type snapshot struct{ state *core.State }

// Persist is raft.FSMSnapshot's: the state as JSON.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(s.state); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("cluster: snapshot: %w", err)
	}
	return sink.Close()
}

// Release is raft.FSMSnapshot's.
func (s snapshot) Release() {}
