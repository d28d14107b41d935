package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

const patience = 20 * time.Second

// steady is for how long a leader leads on that hears nobody: a machine that stands still
// for less does not depose one in the middle of a test.
const steady = 600 * time.Millisecond

// lab is a cluster in this process: real Raft over TCP, each host with a loopback
// address of its own, h1 to h3 the managers.
type lab struct {
	*testing.T
	port  int
	dir   string
	tune  func(*Config)
	hosts map[string]*Cluster

	mu      sync.Mutex // guards answers
	answers map[string]*Cluster
}

func newLab(t *testing.T, tune func(*Config)) *lab {
	before := runtime.NumGoroutine()
	port := 20000 + os.Getpid()%10000 // no call comes from it: those have 32768 and more (ip_local_port_range)
	l := &lab{T: t, port: port, dir: t.TempDir(), tune: tune, hosts: map[string]*Cluster{}, answers: map[string]*Cluster{}}
	t.Cleanup(func() {
		for name := range l.hosts {
			l.stop(name)
		}
		l.settle(before)
	})
	return l
}

// settle sees to it that no goroutine has stayed behind.
func (l *lab) settle(before int) {
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			stacks := make([]byte, 1<<20)
			l.Fatalf("goroutines left behind:\n%s", stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func address(name string) string { return "127.0.20." + name[1:] }

func (l *lab) config(name string) Config {
	cfg := Config{Node: name, ID: "id-" + name, Addr: address(name), Port: l.port, Dir: filepath.Join(l.dir, name),
		Heartbeat: steady, LeaderLease: steady, Log: io.Discard, Managers: map[string]string{}}
	for _, m := range []string{"h1", "h2", "h3"} {
		cfg.Managers[m] = address(m)
	}
	cfg.Others = l
	if l.tune != nil {
		l.tune(&cfg)
	}
	return cfg
}

func (l *lab) start(names ...string) {
	l.Helper()
	for _, name := range names {
		c, err := Open(l.config(name))
		if err != nil {
			l.Fatal(err)
		}
		l.hosts[name] = c
		l.answer(name, c)
	}
}

// answer has a host be asked by the others, as its API does; nil: it is not.
func (l *lab) answer(name string, c *Cluster) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[address(name)] = c
}

func (l *lab) at(addr string) (*Cluster, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.answers[addr]; c != nil {
		return c, nil
	}
	return nil, errors.New("nobody answers")
}

// Standing is Others'.
func (l *lab) Standing(_ context.Context, addr string) (Standing, error) {
	c, err := l.at(addr)
	if err != nil {
		return Standing{}, err
	}
	return c.Standing(), nil
}

// Blank is Others'.
func (l *lab) Blank(ctx context.Context, addr string, n core.Node) error {
	c, err := l.at(addr)
	if err != nil {
		return err
	}
	if _, leader := c.Leader(); leader != "" {
		if c, err = l.at(leader); err != nil {
			return err
		}
	}
	return c.Blank(ctx, n)
}

func (l *lab) stop(name string) {
	l.Helper()
	c := l.hosts[name]
	delete(l.hosts, name)
	l.answer(name, nil)
	if err := c.Close(); err != nil {
		l.Error(err)
	}
}

func (l *lab) register(names ...string) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	for _, name := range names {
		if err := l.hosts[name].Register(ctx, l.forward); err != nil {
			l.Fatal(err)
		}
	}
}

// forward stands for the HTTP API: it finds the leader.
func (l *lab) forward(ctx context.Context, cmd core.Command) error {
	for _, c := range l.hosts {
		if c.IsLeader() {
			return c.Propose(ctx, cmd)
		}
	}
	return ErrNotLeader
}

func (l *lab) leader() (name string, c *Cluster) {
	l.Helper()
	l.until("a leader", func() bool {
		for name, c = range l.hosts {
			if c.IsLeader() {
				return true
			}
		}
		return false
	})
	return name, c
}

// propose keeps trying through elections, as an agent does. A refusal of what a leader before
// may have taken is wrapped as an ErrOutcomeUnknown.
func (l *lab) propose(cmd core.Command) error {
	l.Helper()
	unknown := false
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		ctx, cancel := context.WithTimeout(l.Context(), 2*time.Second)
		err := l.forward(ctx, cmd)
		cancel()
		if unknown && core.Refused(err) {
			err = fmt.Errorf("%w, then %w", ErrOutcomeUnknown, err)
		}
		if err == nil || core.Refused(err) {
			return err
		}
		unknown = unknown || errors.Is(err, ErrOutcomeUnknown)
		if time.Now().After(limit) {
			l.Fatalf("%s: %v", cmd.Kind, err)
		}
	}
}

func (l *lab) must(cmd core.Command) {
	l.Helper()
	err := l.propose(cmd)
	if errors.Is(err, ErrOutcomeUnknown) && (errors.Is(err, core.ErrStaleGeneration) || errors.Is(err, core.ErrWrongPhase) || errors.Is(err, core.ErrAlreadyProtected)) {
		return // it was taken at first
	}
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) protect(domain, primary, backup string) {
	l.Helper()
	l.must(core.Command{Kind: core.Protect, Protection: &core.Protection{
		Domain: domain, UUID: "uuid-" + domain, Primary: primary, Backup: backup}})
}

// settled is the state that the leader vouches for.
func (l *lab) settled() (s core.State) {
	l.Helper()
	l.until("a settled state", func() bool {
		_, c := l.leader()
		var err error
		s, err = c.Settled(l.Context())
		return err == nil
	})
	return s
}

// sees waits until the State of a host satisfies ok.
func (l *lab) sees(name, what string, ok func(core.State) bool) {
	l.Helper()
	changed, stop := l.hosts[name].Watch()
	defer stop()
	limit := time.After(patience)
	for !ok(l.hosts[name].State()) {
		select {
		case <-changed:
		case <-limit:
			l.Fatalf("%s never saw %s: %+v", name, what, l.hosts[name].State())
		}
	}
}

func has(domain string, phase core.Phase, generation uint64) func(core.State) bool {
	return func(s core.State) bool {
		p, ok := s.Protections[domain]
		return ok && p.Phase == phase && p.Generation == generation
	}
}

// wipe loses a stopped host's disk.
func (l *lab) wipe(name string) {
	l.Helper()
	if err := os.RemoveAll(filepath.Join(l.dir, name)); err != nil {
		l.Fatal(err)
	}
}

func managed(names ...string) func(core.State) bool {
	return func(s core.State) bool { return slices.Equal(s.Voters(), names) }
}

func describe(s core.State) string { return fmt.Sprintf("%+v %v", s.Protections, s.Retired) }
