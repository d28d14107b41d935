package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// fakeCluster answers proposals in turn; the last answer stays.
type fakeCluster struct {
	state    core.State
	answers  []error
	proposed []core.Kind
}

func (c *fakeCluster) State() core.State                { return c.state }
func (c *fakeCluster) Watch() (<-chan struct{}, func()) { return nil, func() {} }

func (c *fakeCluster) Propose(_ context.Context, cmd core.Command) error {
	c.proposed = append(c.proposed, cmd.Kind)
	err := c.answers[0]
	if len(c.answers) > 1 {
		c.answers = c.answers[1:]
	}
	return err
}

var errNoLeader = errors.New("no leader")

func newJob(c Cluster, o core.Protection) *primary {
	a := New(Config{Node: "h1", Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, c)
	return newPrimary(a, o, false)
}

// TestReportLooksAgain: while no manager answers the guest dies, and what is told in the
// end is that, not that its backup is to be given up.
func TestReportLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeCluster{answers: []error{errNoLeader, errNoLeader, nil}}
		p := newJob(c, core.Protection{Domain: "g1", Primary: "h1", Phase: core.Protected})
		o, _ := p.current()
		tries := 0
		p.report(t.Context(), o, func(context.Context) (core.Command, bool) {
			tries++
			return core.Command{Kind: []core.Kind{core.GoSolo, "", core.FailOver, core.FailOver}[tries-1]}, tries != 2
		})
		if want := []core.Kind{core.GoSolo, core.FailOver, core.FailOver}; !slices.Equal(c.proposed, want) {
			t.Errorf("told %v, want %v: what is not known is not told", c.proposed, want)
		}
	})
}

// TestReportEnds: with the order it is about, with a refusal, and with its context.
func TestReportEnds(t *testing.T) {
	solo := func(context.Context) (core.Command, bool) { return core.Command{Kind: core.GoSolo}, true }
	synctest.Test(t, func(t *testing.T) {
		c := &fakeCluster{answers: []error{core.ErrStaleGeneration}}
		p := newJob(c, core.Protection{Domain: "g1", Primary: "h1"})
		o, _ := p.current()
		p.report(t.Context(), o, solo)
		if len(c.proposed) != 1 {
			t.Errorf("a final refusal was asked for %d times", len(c.proposed))
		}
		c.answers = []error{errNoLeader}
		done := make(chan struct{})
		go func() { p.report(t.Context(), o, solo); close(done) }()
		synctest.Wait()
		p.update(core.Protection{Domain: "g1", Primary: "h2", Generation: 1})
		<-done
		ctx, cancel := context.WithCancel(t.Context())
		o, _ = p.current()
		go cancel()
		p.report(ctx, o, solo)
	})
}

// TestOrdersDoNotGoBack: an older generation than the job knows is ignored, and the same
// again wakes nobody.
func TestOrdersDoNotGoBack(t *testing.T) {
	p := newJob(&fakeCluster{}, core.Protection{Domain: "g1", Primary: "h1", Generation: 3, Phase: core.Solo})
	_, wake := p.current()
	p.update(core.Protection{Domain: "g1", Primary: "h2", Generation: 2})
	p.update(core.Protection{Domain: "g1", Primary: "h1", Generation: 3, Phase: core.Solo})
	if o, _ := p.current(); o.Primary != "h1" {
		t.Errorf("went back to %+v", o)
	}
	select {
	case <-wake:
		t.Error("woken for nothing")
	default:
	}
	p.ended(core.Ended{Primary: "h2", Generation: 4}, true)
	if o, _ := p.current(); o != nil {
		t.Errorf("still %+v", o)
	}
	<-wake
}

// TestStartsNothingByAnOldOrder: a host that stood still has an order to start a guest that
// may be another's by now, and no lease; it touches nothing.
func TestStartsNothingByAnOldOrder(t *testing.T) {
	o := core.Protection{Domain: "g1", Primary: "h1", Phase: core.Recovering, Cold: true, OnLoss: core.OnLossRestart}
	p := newJob(&fakeCluster{state: core.State{Protections: map[string]core.Protection{"g1": o}}}, o)
	p.agent.cfg.Lease = func(core.State) time.Time { return time.Now().Add(-time.Millisecond) }
	if c, known := p.startAnew(t.Context(), o); known { // there is no host to ask
		t.Errorf("told %v", c)
	}
}
