package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
)

// world is a cluster whose nodes are servers in this process. Its Raft is a mutex.
type world struct {
	mu      sync.Mutex // guards what follows
	leader  string
	agreed  core.State
	seen    map[string]core.State // what each node knows; a lagging one is behind
	lagging map[string]bool
	live    map[string]string
	changed chan struct{}
	quorum  error // what proposals fail with

	nodes map[string]*node
}

type node struct {
	*world
	name   string
	server *Server
	http   *httptest.Server
	agent  *fakeAgent
}

func newWorld(t *testing.T, leader string, names ...string) *world {
	w := &world{leader: leader, seen: map[string]core.State{}, lagging: map[string]bool{}, live: map[string]string{},
		changed: make(chan struct{}), nodes: map[string]*node{}}
	for i, n := range names {
		w.live[n] = alive
		x := &node{world: w, name: n, agent: &fakeAgent{node: n, domains: map[string]DomainInfo{}}}
		x.server = &Server{Node: n, Name: "hamgr", Cluster: x, Agent: x.agent, Alive: w.alive, peer: w.peer}
		x.http = httptest.NewServer(x.server.Handler())
		t.Cleanup(x.http.Close)
		w.nodes[n] = x
		w.must(t, core.Command{Kind: core.RegisterNode, Node: &core.Node{Name: n, ID: n, Addr: fmt.Sprintf("10.0.0.%d", i+1)}})
	}
	w.manage(names...)
	return w
}

func (w *world) must(t *testing.T, c core.Command) {
	t.Helper()
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
}

func (w *world) apply(c core.Command) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := core.Apply(&w.agreed, w.agreed.Index+1, c)
	w.spreadLocked()
	return err
}

// manage is Raft's agreement on who the managers are.
func (w *world) manage(names ...string) {
	w.set(func() {
		m := map[string]string{}
		for _, n := range names {
			m[n] = w.agreed.Nodes[n].Addr
		}
		core.Manage(&w.agreed, w.agreed.Index+1, m)
	})
}

func (w *world) spreadLocked() {
	for n := range w.nodes {
		if !w.lagging[n] {
			w.seen[n] = w.agreed
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.spreadLocked()
}

func (w *world) alive() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for n, s := range w.live {
		out[n] = s
	}
	return out
}

// peer finds a node by its management address.
func (w *world) peer(addr string) *Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, n := range w.agreed.Nodes {
		if n.Addr == addr {
			return NewClient(w.nodes[name].http.URL)
		}
	}
	return NewClient("http://127.0.0.1:1")
}

func (w *world) client(name string) *Client { return NewClient(w.nodes[name].http.URL) }

func (n *node) State() core.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[n.name]
}

func (n *node) Watch() (<-chan struct{}, func()) {
	out, stop := make(chan struct{}, 1), make(chan struct{})
	go func() {
		for {
			n.mu.Lock()
			changed := n.changed
			n.mu.Unlock()
			select { // one that has been missed meanwhile is made up for
			case out <- struct{}{}:
			default:
			}
			select {
			case <-stop:
				return
			case <-changed:
			}
		}
	}()
	return out, func() { close(stop) }
}

func (n *node) Propose(_ context.Context, c core.Command) error {
	n.mu.Lock()
	leads, broken := n.leader == n.name, n.quorum
	n.mu.Unlock()
	if broken != nil {
		return broken
	}
	if !leads {
		return errors.New("not the leader")
	}
	return n.apply(c)
}

func (n *node) Leader() (string, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader, n.agreed.Nodes[n.leader].Addr
}

func (n *node) IsLeader() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader == n.name
}

func (n *node) changeManagers(change func(m map[string]bool)) error {
	n.mu.Lock()
	leads, broken, m := n.leader == n.name, n.quorum, map[string]bool{}
	for _, name := range n.agreed.Voters() {
		m[name] = true
	}
	n.mu.Unlock()
	if broken != nil {
		return broken
	}
	if !leads {
		return cluster.ErrNotLeader
	}
	change(m)
	n.manage(slices.Sorted(maps.Keys(m))...)
	return nil
}

func (n *node) AddManager(_ context.Context, name, _ string) error {
	return n.changeManagers(func(m map[string]bool) { m[name] = true })
}

func (n *node) RemoveManager(_ context.Context, name, _ string) error {
	return n.changeManagers(func(m map[string]bool) { delete(m, name) })
}

func (n *node) HandOver(_ context.Context, to string) error {
	n.set(func() { n.leader = to })
	return nil
}

func (n *node) Blank(_ context.Context, b core.Node) error {
	return n.changeManagers(func(m map[string]bool) { delete(m, b.Name) })
}

func (n *node) Standing() cluster.Standing {
	return cluster.Standing{Last: n.State().Index, Applied: n.State().Index}
}

func (n *node) Settled(context.Context) (core.State, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.quorum != nil {
		return core.State{}, n.quorum
	}
	return n.agreed, nil
}

// fakeAgent knows domains by name; broken is what it says to everything else.
type fakeAgent struct {
	node    string
	behind  bool // it has not seen to what was decided last
	domains map[string]DomainInfo
	broken  error
	backup  error
	probe   error
	stats   func() map[string]Stats
	seen    []core.Sighting
	before  []core.Sighting // seen at first, once
}

var errNotSettled = errors.New("there is a copy of a former time")

func (a *fakeAgent) Sightings(context.Context) ([]core.Sighting, error) {
	if first := a.before; first != nil {
		a.before = nil
		return first, a.broken
	}
	return a.seen, a.broken
}

func (a *fakeAgent) Definition(_ context.Context, name string) (string, error) {
	return "<domain><name>" + name + "</name></domain>", nil
}

func (a *fakeAgent) Domain(_ context.Context, name string, index uint64) (DomainInfo, error) {
	if a.behind && index > 0 {
		return DomainInfo{}, errNotSettled
	}
	if a.broken != nil {
		return DomainInfo{}, a.broken
	}
	if d, ok := a.domains[name]; ok {
		return d, nil
	}
	return DomainInfo{}, fmt.Errorf("%w: %q", ErrNoDomain, name)
}

func (a *fakeAgent) BackupCheck(context.Context, BackupRequest) error { return a.backup }

func (a *fakeAgent) Probe(context.Context, core.Probe) error { return a.probe }

func (a *fakeAgent) Stats() map[string]Stats {
	if a.stats == nil {
		return nil
	}
	return a.stats()
}

func (a *fakeAgent) Check(context.Context) []CheckResult {
	return []CheckResult{{Name: "qemu", OK: true, Detail: "fine"}}
}

func running(name string) DomainInfo {
	return DomainInfo{Name: name, UUID: "uuid-" + name, Running: true, State: "running", MemoryBytes: 1 << 30, QEMUVersion: "11.1.3"}
}

// wantError is about the code, the words and the exit code of a failure.
func wantError(t *testing.T, err error, code string, exit int, words ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("want %s, got %v", code, err)
	}
	if e.Code != code || e.ExitCode() != exit {
		t.Errorf("code %s, exit code %d; want %s, %d (%s)", e.Code, e.ExitCode(), code, exit, e.Message)
	}
	for _, word := range words {
		if !contains(e.Message+" | "+e.Advice, word) {
			t.Errorf("%q is not in %q, advice %q", word, e.Message, e.Advice)
		}
	}
}

func post(t *testing.T, c *Client, path string, in, out any) error {
	t.Helper()
	return c.Do(t.Context(), http.MethodPost, path, in, out)
}
