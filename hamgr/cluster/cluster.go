package cluster

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Cluster is one node's part in the managers' agreement.
type Cluster struct {
	cfg     Config
	log     hclog.Logger
	raft    *raft.Raft
	stream  *stream
	machine *machine
	store   *store
	events  *events
	voter   voter
	boot    string        // this process's mark in its registration
	present atomic.Bool   // that has been seen here
	old     uint64        // the last log entry that was there before this process
	blank   bool          // there was no log before this process
	nudges  chan struct{} // capacity 1: something was committed

	joined   chan struct{}         // closed once this node takes part, see join
	waits    atomic.Pointer[error] // what for, until then
	changing atomic.Bool           // a change of the managers is under way

	down   chan struct{}   // closed once Raft has ended
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex // guards closed, and wg against Add after Wait
	closed bool
	wg     sync.WaitGroup
}

// Open starts this node's part: as its log says; without one it asks the others first
// (join). It does not wait for that, nor for a leader. Errors: ErrDirInUse, and those of
// the disk and the network, wrapped.
func Open(cfg Config) (_ *Cluster, err error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, boot: uuid.NewString(), nudges: make(chan struct{}, 1), joined: make(chan struct{}), down: make(chan struct{}), events: &events{wake: make(chan struct{}, 1)}}
	c.log = hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, Output: cfg.Log})
	c.machine = newMachine(cfg.Managers, c.applied)
	if c.store, err = openStore(cfg.Dir, c.log); err != nil {
		return nil, err
	}
	if c.raft, err = c.startRaft(); err != nil {
		c.store.close()
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wg.Go(func() { c.events.run(c.ctx) })
	c.wg.Go(c.nudge)
	c.wg.Go(c.members)
	if c.blank {
		c.wg.Go(c.join)
	} else {
		c.stream.open()
		close(c.joined)
	}
	return c, nil
}

func (c *Cluster) startRaft() (*raft.Raft, error) {
	var err error
	if c.old, err = c.store.wal.LastIndex(); err != nil {
		return nil, fmt.Errorf("cluster: read the log's end: %w", err)
	}
	known, err := raft.HasExistingState(c.store.logs, c.store.wal, c.store.snapshots)
	if err != nil {
		return nil, fmt.Errorf("cluster: read the log: %w", err)
	}
	c.blank = !known
	if c.stream, err = listen(string(c.cfg.raftAddress(c.cfg.Addr))); err != nil {
		return nil, err
	}
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: c.stream, MaxPool: 3, Timeout: c.cfg.RPC, Logger: c.log})
	r, err := raft.NewRaft(c.cfg.raft(c.log), c.machine, c.store.logs, c.store.wal, c.store.snapshots, transport)
	if err != nil {
		transport.Close()
		return nil, fmt.Errorf("cluster: start raft: %w", err)
	}
	return r, nil
}

// Close leaves the cluster and waits until every goroutine has ended. The node remains a
// member. Close may be called twice.
func (c *Cluster) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	c.cancel()
	err := c.raft.Shutdown().Error()
	close(c.down)
	c.wg.Wait()
	c.store.close()
	if err != nil {
		return fmt.Errorf("cluster: shut down raft: %w", err)
	}
	return nil
}

// answer is a future's. Raft leaves those without one that its state machine had not got to
// when it ended (runFSM, fsm.go); the goroutine that waits for such a one is left with it.
func (c *Cluster) answer(f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-c.down:
	}
	select {
	case err := <-done:
		return err
	default:
		return raft.ErrRaftShutdown
	}
}

// spawn runs f on a goroutine that Close waits for, unless it is too late for that.
func (c *Cluster) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// State is the newest state this node knows, never older than its Register; before that
// it is empty, with Index 0. It may lag behind the leader's. It is a snapshot: read only.
func (c *Cluster) State() core.State {
	if s := c.machine.state.Load(); c.caughtUp(s) {
		return *s
	}
	return core.State{}
}

// caughtUp says that s, the newest state here, is not older than this process's registration.
func (c *Cluster) caughtUp(s *core.State) bool {
	if c.registered(s) {
		c.present.Store(true)
	}
	return c.present.Load()
}

// Watch pulses after changes of State, several in one pulse if the reader is slow; stop
// ends the subscription. Each subscriber has a channel of its own.
func (c *Cluster) Watch() (changed <-chan struct{}, stop func()) { return c.machine.watch() }

// Leader names the leader that this node knows and its management address, without port;
// both are empty while there is none.
func (c *Cluster) Leader() (name, addr string) {
	at, id := c.raft.LeaderWithID()
	host, _, err := net.SplitHostPort(string(at))
	if id == "" || err != nil {
		return "", ""
	}
	return string(id), host
}

// IsLeader says whether this node leads, as far as it knows: of two that think so, only
// one can commit anything.
func (c *Cluster) IsLeader() bool { return c.raft.State() == raft.Leader }

// OnEvent has f called, on the leader only, for each event that was newly agreed on; one
// after the other, on a goroutine of its own, so f may take its time. After a change of
// leader an event may be missed; it stays in State.
func (c *Cluster) OnEvent(f func(core.Event)) {
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	c.events.handlers = append(c.events.handlers, f)
}

// applied runs on Raft's goroutine. What was in the log before this process started has
// been told by an earlier one.
func (c *Cluster) applied(index uint64, e core.Event) {
	if index > c.old && c.IsLeader() {
		c.events.add(e)
	}
}
