package agent

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

var errRefused = errors.New("connection refused")

// service is a prober at work with a cluster that is one protection, under a clock of its own.
type service struct {
	*prober
	mu      sync.Mutex // guards the rest
	now     core.Protection
	changed chan struct{}
	answer  error
	tries   int
	told    []string
	away    bool // the managers
}

// asked starts the prober of a protected guest, once a second, three failures.
func asked(t *testing.T) *service {
	s := &service{changed: make(chan struct{}), now: core.Protection{Domain: "g1", Primary: "h1", Generation: 7, Phase: core.Protected,
		Probe: core.Probe{URL: "tcp://10.0.0.5:80", Interval: time.Second, Timeout: time.Second, Failures: 3}}}
	s.prober = &prober{node: "h1",
		state: func() (core.Protection, bool) { s.mu.Lock(); defer s.mu.Unlock(); return s.now, true },
		order: func() <-chan struct{} { s.mu.Lock(); defer s.mu.Unlock(); return s.changed },
		try:   func(context.Context, core.Probe) error { s.mu.Lock(); defer s.mu.Unlock(); s.tries++; return s.answer },
		tell:  s.take,
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return s
}

func (s *service) take(_ context.Context, c core.Command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errors.New("no manager answers")
	}
	if c.Generation != s.now.Generation {
		return core.ErrStaleGeneration
	}
	s.told = append(s.told, string(c.Kind))
	if s.now.ProbeFailed = c.Cause; c.Kind == core.ProbePassed {
		s.now.ProbeFailed = ""
	}
	return nil
}

func (s *service) change(f func(*core.Protection)) {
	s.mu.Lock()
	f(&s.now)
	old := s.changed
	s.changed = make(chan struct{})
	s.mu.Unlock()
	close(old)
	synctest.Wait()
}

// set changes the world while the prober sleeps.
func (s *service) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// rounds lets so many intervals pass.
func (s *service) rounds(n int) {
	time.Sleep(time.Duration(n)*time.Second + time.Millisecond)
	synctest.Wait()
}

func (s *service) expect(t *testing.T, tries int, told ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tries != tries || !slices.Equal(s.told, told) {
		t.Errorf("asked %d times, told %v; want %d, %v", s.tries, s.told, tries, told)
	}
}

// failed is why the managers think that it fails.
func (s *service) failed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.ProbeFailed
}

func TestProbeFailsAndPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := asked(t)
		s.rounds(2)
		s.set(func() { s.answer = errRefused })
		s.rounds(2)
		s.set(func() { s.answer = nil }) // two are not three
		s.rounds(1)
		s.set(func() { s.answer = errRefused })
		s.rounds(2)
		s.expect(t, 7)
		s.rounds(20)
		s.expect(t, 27, "probe-failed")
		if why := s.failed(); !strings.Contains(why, "not answered 3 times") || !strings.Contains(why, "connection refused; a failover would not help") {
			t.Error(why)
		}
		s.set(func() { s.answer = nil })
		s.rounds(5)
		s.expect(t, 32, "probe-failed", "probe-passed")
	})
}

// TestProbeFromAHostWithoutAWay: a new primary may have no way into the guest's network.
func TestProbeFromAHostWithoutAWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := asked(t)
		s.set(func() { s.answer = errRefused })
		s.rounds(3)
		if why := s.failed(); !strings.Contains(why, "nor ever to h1, which may have no way") {
			t.Error(why)
		}
	})
}

// TestProbeOfANewPrimary goes on where the last one was: what is known is not told again.
func TestProbeOfANewPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := asked(t)
		s.set(func() { s.now.ProbeFailed, s.answer = "it fails on h2", errRefused })
		s.rounds(9)
		s.expect(t, 9)
		s.set(func() { s.answer = nil })
		s.rounds(1)
		s.expect(t, 10, "probe-passed")
	})
}

func TestProbeUntilItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := asked(t)
		s.set(func() { s.away, s.answer = true, errRefused })
		s.rounds(5)
		s.set(func() { s.away = false })
		s.rounds(1)
		s.expect(t, 6, "probe-failed")
	})
}

// TestProbeOnlyWhereTheGuestRuns: not while it is restored, nor another node's, nor without
// an order to.
func TestProbeOnlyWhereTheGuestRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := asked(t)
		s.set(func() { s.answer = errRefused })
		s.rounds(2)
		s.change(func(p *core.Protection) { p.Phase = core.Recovering })
		s.rounds(10)
		s.expect(t, 2)
		s.change(func(p *core.Protection) { p.Phase = core.Solo })
		s.rounds(1)
		s.change(func(p *core.Protection) { p.Primary = "h2" })
		s.rounds(10)
		s.change(func(p *core.Protection) { p.Primary, p.Probe = "h1", core.Probe{} })
		s.rounds(10)
		s.expect(t, 3)
	})
}

// TestProbeAsksWithinItsTime: the service is a listener whose queue nobody serves.
func TestProbeAsksWithinItsTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := &Agent{}
	q := core.Probe{URL: "tcp://" + l.Addr().String(), Timeout: time.Minute}
	if err := a.Probe(t.Context(), q); err != nil {
		t.Error(err)
	}
	q.URL, q.Timeout = "http://"+l.Addr().String(), 50*time.Millisecond
	if err := a.Probe(t.Context(), q); err == nil {
		t.Error("a web server that says nothing answers")
	}
}
