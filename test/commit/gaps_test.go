package commit

import (
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

const ask = "a 1 text"

func reply(w *world) []byte { return w.udp(true, chain.New().Answer(ask)+"\n") }

// gap is a request at an instant whose first transmission has no answer, and whose second
// one has, six seconds later from where the guest is then; the capture goes on until 13 s.
func gap(w *world, ms float64) *world {
	w.ask(ms, w.udp(false, ask+"\n"))
	w.ask(ms+6000, w.udp(false, ask+"\n"))
	host := ""
	for _, e := range w.events {
		if e.Kind == trace.Order {
			host = e.Primary
		}
	}
	w.emit(ms+6001, ms+6001.1, host, reply(w))
	if host == "h2" { // restored and announced there
		w.emit(331, 331.1, "h2", w.arp())
	}
	w.ask(13000, w.udp(false, "later"))
	return w
}

// TestNoGapAtAFailover: all that reached the dead host, and all that the switch flooded
// after, is answered. Only what was under way to it when it died may be lost.
func TestNoGapAtAFailover(t *testing.T) {
	off := Options{Faults: []Fault{{PowerOff, "h1", at(250), at(252)}}}
	for ms, want := range map[float64][]Kind{
		224: {Gap}, // in the last checkpoint
		240: {Gap}, // in none, and copied
		244: {Gap}, 246: nil, 256: nil, 258: {Gap},
		319: {Gap}, // flooded
		330: {Gap}, // live again
	} {
		w := gap(failover(t, 6), ms)
		r := w.check(off)
		w.want(r, want...)
		if want == nil && (r.UDP != UDP{Sent: 2, Answered: 1, Nobody: 1}) {
			t.Fatalf("%+v", r.UDP)
		}
	}
	other := Options{Faults: []Fault{{PowerOff, "h3", at(250), at(252)}}}
	w := gap(failover(t, 6), 251)
	w.want(w.check(other), Gap)
}

// TestSentToAHostThatLives: where only QEMU died, its tap is still there, and what comes is
// copied.
func TestSentToAHostThatLives(t *testing.T) {
	killed := Options{Faults: []Fault{{GuestKilled, "h1", at(250), at(260)}}}
	for _, ms := range []float64{244, 246, 319, 330, 332} {
		w := gap(failover(t, 6), ms)
		w.want(w.check(killed), Gap)
	}
}

// TestGivenUp: a host that lost its guest for no fault that is known gets what the network
// sends there until it has seen the guest elsewhere, each NIC for itself; from the restore
// on, that is lost.
func TestGivenUp(t *testing.T) {
	for ms, want := range map[float64][]Kind{314: {Gap}, 316: nil, 330: nil, 332: {Gap}} {
		w := gap(failover(t, 6), ms)
		w.want(w.check(Options{}), want...)
	}
	w := gap(failover(t, 6), 335)
	w.emit(340, 340.1, "h2", append(append(w.arp()[:6:6], 2, 2, 2, 2, 2, 2), w.arp()[12:]...)) // not the guest's
	w.want(w.check(Options{}), Gap)
}

// TestCutOff: a primary that was cut off and has lost its guest could not send copies;
// one that has kept it answers by itself.
func TestCutOff(t *testing.T) {
	cut := Options{Faults: []Fault{{CutOff, "h1", at(250), at(400)}}}
	w := gap(failover(t, 6), 260)
	w.want(w.check(cut))
	w = gap(failover(t, 6), 240)
	w.want(w.check(cut), Gap)
	w = gap(protected(t), 260)
	w.order(300, 3, "solo", "buffer", "h1")
	w.want(w.check(cut), Gap)
}

// TestAgentDied: what it held is lost. What came is lost only if it may have waited with it,
// or came as its successor cleared away: in between, the guest is there.
func TestAgentDied(t *testing.T) {
	killed := Options{Faults: []Fault{{AgentKilled, "h1", at(240), at(250)}}}
	died := func() *world {
		w := protected(t)
		for n := range uint64(5) { // of the sixth, nothing has come
			w.note(106+25*float64(n), trace.Event{Node: "h1", Kind: trace.Acked, Generation: 2, Epoch: n + 1})
			w.note(107+25*float64(n), trace.Event{Node: "h1", Kind: trace.Released, Generation: 2, Epoch: n + 1})
		}
		w.order(280, 2, "protected", "buffer", "h1") // what the successor finds
		w.order(4900, 3, "solo", "buffer", "h1")     // h1 hears of it at 4902
		w.order(4950, 4, "syncing", "buffer", "h1")
		w.order(4980, 5, "solo", "buffer", "h1") // that came to nothing
		w.note(5000, trace.Event{Node: "h1", Kind: trace.Opened, Generation: 3})
		w.emit(251, 0, "h1", w.arp()) // it runs
		return w
	}
	for ms, want := range map[float64][]Kind{
		199: {Gap}, 202: nil, 250: nil, 349: nil, 351: {Gap}, // waited since the fifth epoch, acknowledged at 206
		2000: {Gap}, 4896: {Gap}, 4898: nil, 4940: nil, 4999: nil, 5001: {Gap},
	} {
		w := gap(died(), ms)
		w.want(w.check(killed), want...)
	}
	w := gap(died(), 240)
	w.want(w.check(Options{Faults: []Fault{{AgentKilled, "h2", at(240), at(250)}}}), Gap) // another's
	w = gap(died(), 150)                                                                  // answered in the epoch that was not let go
	w.want(w.check(killed), Gap)
	w.emit(201, 0, "h1", reply(w))
	r := w.check(killed)
	if w.want(r); r.UDP != (UDP{Sent: 2, Answered: 1, Withheld: 1}) {
		t.Fatalf("%+v", r.UDP)
	}
	w = gap(died(), 150) // in the one before, which was
	w.emit(190, 0, "h1", reply(w))
	w.want(w.check(killed), Gap)
	w = gap(died(), 2000) // answered, and nobody let it go
	w.emit(2001, 0, "h1", reply(w))
	w.want(w.check(killed))
}

// TestAgentDiedInAPause: until the guest is heard again one packet more may be lost.
func TestAgentDiedInAPause(t *testing.T) {
	killed := Options{Faults: []Fault{{AgentKilled, "h1", at(240), at(250)}}}
	for heard, want := range map[float64][]Kind{399: {Gap}, 401: nil, 6000: nil} {
		w := protected(t)
		w.note(206, trace.Event{Node: "h1", Kind: trace.Acked, Generation: 2, Epoch: 5})
		w.order(900, 3, "solo", "buffer", "h1")
		w.note(1000, trace.Event{Node: "h1", Kind: trace.Opened, Generation: 3})
		w = gap(w, 400)
		w.emit(heard, 0, "h1", w.arp())
		w.want(w.check(killed), want...)
		w = gap(w, 398) // and no other
		w.want(w.check(killed), Gap)
	}
}

// TestAgentDiedWithoutASession: nothing waited with it.
func TestAgentDiedWithoutASession(t *testing.T) {
	killed := Options{Faults: []Fault{{AgentKilled, "h1", at(240), at(250)}}}
	for _, last := range []trace.Kind{trace.Opened, trace.Cut} {
		w := protected(t)
		w.note(231, trace.Event{Node: "h1", Kind: last, Generation: 2})
		w.order(300, 3, "solo", "buffer", "h1")
		w = gap(w, 245)
		w.want(w.check(killed), Gap)
	}
	w := protected(t) // in its first epoch, for all that it noted
	w.order(300, 3, "solo", "buffer", "h1")
	w = gap(w, 245)
	w.want(w.check(killed))
}

// TestAgentDiedAndAnotherHostGotTheGuest, with the copies of all that came before.
func TestAgentDiedAndAnotherHostGotTheGuest(t *testing.T) {
	killed := Options{Faults: []Fault{{AgentKilled, "h1", at(100), at(110)}}}
	for ms, want := range map[float64][]Kind{209: nil, 211: {Gap}, 314: {Gap}, 316: nil, 335: {Gap}} {
		w := failover(t, 6)
		w.emit(111, 131, "h1", w.arp()) // it ran
		w.note(400, trace.Event{Node: "h1", Kind: trace.Opened, Generation: 3})
		w = gap(w, ms)
		w.want(w.check(killed), want...)
	}
}

// TestLinkDown: requests and answers are lost on it, nobody else's.
func TestLinkDown(t *testing.T) {
	down := func(host string) Options { return Options{Faults: []Fault{{LinkDown, host, at(1300), at(1400)}}} }
	w := gap(failover(t, 6), 1350)
	w.want(w.check(down("h2")))
	w.want(w.check(down("h1")), Gap)
	w = gap(failover(t, 6), 1250)
	w.want(w.check(down("h2")), Gap)
	w.emit(1310, 0, "h2", reply(w))
	w.want(w.check(down("h2")))
	w = gap(failover(t, 6), 1410)
	w.want(w.check(down("h2")), Gap)
}

// TestAsASessionBegins: until the output is held, input is not copied, and QEMU stops the
// guest once.
func TestAsASessionBegins(t *testing.T) {
	for ms, want := range map[float64][]Kind{-6: {Gap}, -4: nil, 99: nil, 106: {Gap}} {
		w := protected(t)
		w.order(1000, 3, "solo", "buffer", "h1")
		w = gap(w, ms)
		w.want(w.check(Options{}), want...)
	}
}

// TestEachRequestIsJudgedOnce, by the check in which its time is over.
func TestEachRequestIsJudgedOnce(t *testing.T) {
	w := &world{t: t}
	w.ask(100, w.udp(false, ask))
	w.ask(1000, w.udp(false, "later"))
	w.want(w.check(Options{})) // it may still be answered
	w.ask(1200, w.udp(false, "later"))
	w.want(w.check(Options{}), Gap)
	w.want(w.check(Options{From: at(1000)}), Gap)
	w.want(w.check(Options{From: at(1200)}))
	w = &world{t: t}
	w.ask(100, w.udp(false, ask))
	w.ask(700, w.udp(false, ask)) // again
	w.emit(800, 800.1, "h1", reply(w))
	w.ask(1200, w.udp(false, "later"))
	w.want(w.check(Options{}))
	w.ask(1800, w.udp(false, "later"))
	w.want(w.check(Options{}), Gap)
	w.want(w.check(Options{Asked: at(100)}), Gap)
	w.want(w.check(Options{Asked: at(101)}))
}

// TestAnAnswerIsToWhatWasSentBeforeIt: a restored guest answers once more what is delivered once
// more. That is no answer to what was sent after it.
func TestAnAnswerIsToWhatWasSentBeforeIt(t *testing.T) {
	off := Options{Faults: []Fault{{PowerOff, "h1", at(250), at(252)}}}
	twice := func(sent ...float64) *world {
		w := failover(t, 6)
		w.emit(328, 328.1, "h2", w.arp())
		w.ask(218, w.udp(false, ask))
		w.emit(219, 230.5, "h1", reply(w))
		w.emit(329, 329.1, "h2", reply(w))
		for _, ms := range sent {
			w.ask(ms, w.udp(false, ask))
		}
		w.ask(4000, w.udp(false, "later"))
		return w
	}
	w := twice()
	w.want(w.check(off))
	w = twice(1000)
	if r := w.check(off); r.UDP != (UDP{Sent: 2, Answered: 1, Gaps: 1}) {
		t.Fatalf("%+v", r.UDP)
	}
	w.emit(999, 999.1, "h2", reply(w))
	w.want(w.check(off), Gap)
	w.want(w.check(Options{Faults: off.Faults, Clocks: 2 * time.Millisecond}))
	w = twice(1000)
	w.emit(1001, 1001.1, "h2", reply(w))
	w.want(w.check(off))
	w = twice(320) // the second may be to this one
	w.want(w.check(off))
	w = twice(251, 320) // and the first may not, but that was under way to the dead host
	if r := w.check(off); r.UDP != (UDP{Sent: 3, Answered: 2, Nobody: 1}) {
		t.Fatalf("%+v", r.UDP)
	}
	w = twice(251, 1000, 1400)
	if r := w.check(off); r.UDP != (UDP{Sent: 4, Answered: 2, Gaps: 2}) {
		t.Fatalf("%+v", r.UDP)
	}
}

// TestGapsInCheckpointMode are gaps, too.
func TestGapsInCheckpointMode(t *testing.T) {
	w := &world{t: t}
	w.order(0, 2, "protected", "checkpoint", "h1")
	w.epoch(100, 105, 2, 1)
	w.order(300, 3, "recovering", "checkpoint", "h2")
	w.note(320, trace.Event{Node: "h2", Kind: trace.Restored, Generation: 2, Epoch: 1})
	w = gap(w, 120)
	w.want(w.check(Options{}), Gap)
}

// TestClosedGate: an answer that waits for a lease is not to be lost, in mode checkpoint no
// more than in the other; but it goes with the agent that holds it.
func TestClosedGate(t *testing.T) {
	for _, mode := range []string{"checkpoint", "buffer"} {
		w := &world{t: t}
		w.order(0, 2, "syncing", mode, "h1")
		w.order(50, 2, "solo", mode, "h1")
		w = gap(w, 120)
		w.want(w.check(Options{}), Gap)
		w.emit(121, 0, "h1", reply(w))
		w.want(w.check(Options{}), Gap)
		if mode == "checkpoint" {
			w.want(w.check(Options{Faults: []Fault{{What: AgentKilled, Host: "h1", From: at(300), Until: at(400)}}}))
			w.want(w.check(Options{Faults: []Fault{{What: AgentKilled, Host: "h1", From: at(900), Until: at(950)}}}), Gap)
		}
	}
}

// TestQueuedAtAStop: one packet of each NIC is lost at the end of an epoch of which the
// agent says so, and no more.
func TestQueuedAtAStop(t *testing.T) {
	stopped := func(queued bool) *world {
		w := protected(t)
		w.note(249, trace.Event{Node: "h1", Kind: trace.Boundary, Generation: 2, Epoch: 7, Queued: queued})
		w.order(1000, 3, "solo", "buffer", "h1")
		return w
	}
	w := gap(stopped(true), 240)
	r := w.check(Options{})
	if w.want(r); r.UDP.AtStop != 1 {
		t.Fatalf("%+v", r.UDP)
	}
	w.ask(241, w.udp(false, "b 1 text\n")) // there is one NIC
	w.want(w.check(Options{}), Gap)
	for ms, w := range map[float64]*world{240: stopped(false), 219: stopped(true), 250: stopped(true)} {
		w = gap(w, ms)
		w.want(w.check(Options{}), Gap)
	}
}
