package agent

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/test/bridge"
)

// gatedJob is a job whose guest has said something that waits for a lease.
func gatedJob(t *testing.T, c Cluster, o core.Protection) *primary {
	if os.Getuid() != 0 {
		t.Fatal("needs root: a network namespace, a TAP and a BPF filter")
	}
	runtime.LockOSThread() // never unlocked: the namespace ends with this thread
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := bridge.Make("br0"); err != nil {
		t.Fatal(err)
	}
	fd, err := bridge.OpenTAP("g0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := bridge.PlugIn("br0", "g0"); err != nil {
		t.Fatal(err)
	}
	p := newJob(c, o)
	if p.out.gate, err = bufferqdisc.NewGate(o.Domain, []string{"g0"}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.out.gate.Abandon)
	if _, err := unix.Write(fd, make([]byte, bridge.VnetHeader+60)); err != nil {
		t.Fatal(err)
	}
	if s := p.out.gate.Stats(); s.HeldPackets != 1 {
		t.Fatalf("%+v", s)
	}
	return p
}

// heldThen is a cluster that notes what waits when it is told something.
type heldThen struct {
	fakeCluster
	gate *bufferqdisc.Gate
	was  bufferqdisc.GateStats
}

func (c *heldThen) Propose(context.Context, core.Command) error {
	c.was = c.gate.Stats()
	return nil
}

// TestSilence: what a dead guest has said and waits for a lease is gone before the cluster
// hears that it cannot emit; of one that lives it stays.
func TestSilence(t *testing.T) {
	o := core.Protection{Domain: "g1", Primary: "h1", Generation: 3}
	for cmd, want := range map[core.Command]uint64{
		{Kind: core.GoSolo}:                   1,
		{Kind: core.FailOver, Silenced: true}: 0,
		{Kind: core.MarkLost, Stopped: true}:  0,
	} {
		for way, say := range map[string]func(*primary){
			"report": func(p *primary) {
				now, _ := p.current()
				p.report(t.Context(), now, func(context.Context) (core.Command, bool) { return cmd, true })
			},
			"tell": func(p *primary) { p.tell(t.Context(), cmd) },
		} {
			c := &heldThen{}
			p := gatedJob(t, c, o)
			c.gate = p.out.gate
			if say(p); c.was.HeldPackets != want || c.was.Open {
				t.Errorf("%s %s: %+v", way, cmd.Kind, c.was)
			}
		}
	}
}

// TestLeaseOfAFormerTime: a copy from before the guest was another's gets no lease under the
// order to start it anew, so that nothing leaves that waits; the one that is started does.
func TestLeaseOfAFormerTime(t *testing.T) {
	o := core.Protection{Domain: "g1", Primary: "h1", Generation: 3, Phase: core.Recovering, Cold: true, Unrun: true, OnLoss: core.OnLossRestart}
	p := newJob(&fakeCluster{}, o)
	p.agent.cfg.Node = "h1"
	until := time.Now().Add(time.Hour)
	p.agent.cfg.Lease = func(core.State) time.Time { return until }
	if got := p.agent.lease(p); !got.IsZero() {
		t.Errorf("a copy of a former time: %v", got)
	}
	if p.started.Store(3); p.agent.lease(p) != until {
		t.Error("the guest that was started gets none")
	}
}

// TestSilenceLasts until the order changes, although the host has a lease.
func TestSilenceLasts(t *testing.T) {
	o := core.Protection{Domain: "g1", Primary: "h1", Generation: 3, Phase: core.Protected}
	p := newJob(&fakeCluster{}, o)
	until := time.Now().Add(time.Hour)
	p.agent.cfg.Lease = func(core.State) time.Time { return until }
	if p.agent.lease(p) != until {
		t.Error("no lease before")
	}
	if p.silence(core.Command{Kind: core.MarkLost, Stopped: true}); !p.agent.lease(p).IsZero() {
		t.Error("a lease after it")
	}
	o.Phase, o.Generation = core.Solo, 4
	if p.update(o); p.agent.lease(p) != until {
		t.Error("no lease under the next order")
	}
}

// TestMoveWaits for output that waits for a lease, but not for ever.
func TestMoveWaits(t *testing.T) {
	o := core.Protection{Domain: "g1", Primary: "h1", Generation: 3, Phase: core.Protected, Mode: core.Checkpoint}
	p := gatedJob(t, &fakeCluster{}, o)
	s := &session{p: p, order: o}
	if s.movesNow(o) {
		t.Error("it does not want to")
	}
	o.Moving = true
	if s.movesNow(o) || s.moves.IsZero() {
		t.Error("with output that waits")
	}
	if s.moves = time.Now().Add(-time.Millisecond); !s.movesNow(o) {
		t.Error("it waits for ever")
	}
	p.out.gate.Drop()
	if !s.movesNow(o) || !s.moves.IsZero() {
		t.Error("nothing waits")
	}
}

// TestInputIsKeptForLateAnswers: what a guest has taken stays with its backup while an answer
// of it may wait for a lease.
func TestInputIsKeptForLateAnswers(t *testing.T) {
	o := core.Protection{Domain: "g1", Primary: "h1", Generation: 3, Phase: core.Protected, Mode: core.Checkpoint}
	p := gatedJob(t, &fakeCluster{}, o)
	s := &session{p: p, order: o, mirror: &input.Mirror{}, taken: []uint64{5}}
	if err := s.forgetInput(t.Context(), []uint64{7}, false); err != nil || s.taken[0] != 5 {
		t.Errorf("%v, up to %d may be forgotten", err, s.taken)
	}
}

// TestStopLeavesNoGate: a job that ends keeps none, with all that waits there.
func TestStopLeavesNoGate(t *testing.T) {
	p := gatedJob(t, &fakeCluster{}, core.Protection{Domain: "g1", Primary: "h1"})
	g := p.out.gate
	p.closeForGood()
	if err := g.Extend(time.Now().Add(time.Hour)); !errors.Is(err, bufferqdisc.ErrCut) || p.gate() != nil {
		t.Errorf("%v", err)
	}
}
