package judge

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// rig is a table with a clock that the test turns.
type rig struct {
	*testing.T
	*Table
	now time.Time
	seq uint64
}

func newRig(t *testing.T, peers ...string) *rig {
	r := &rig{T: t, Table: New("a", 250*time.Millisecond, 8*time.Second), now: time.Unix(1000, 0)}
	r.SetPeers(peers, r.now)
	r.Tick(r.now)
	return r
}

func (r *rig) beat(from string, suspects ...string) bool {
	r.seq++
	return r.Heard(Heartbeat{Sender: from, Incarnation: 1, Sequence: r.seq, Suspects: suspects}, r.now)
}

// pass lets d go by in ticks, with each running before a tick.
func (r *rig) pass(d time.Duration, each func()) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(20 * time.Millisecond)
		if each != nil {
			each()
		}
		r.Tick(r.now)
	}
}

func (r *rig) want(peer string, s State, suspect bool) {
	r.Helper()
	if p := r.peers[peer]; p.State != s || p.Suspect != suspect {
		r.Fatalf("%s is %s (suspect %v), want %s (suspect %v)", peer, p.State, p.Suspect, s, suspect)
	}
}

func TestSilenceIsSuspected(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(time.Second, func() { r.beat("b") })
	r.want("b", Alive, false)
	r.want("c", Silent, true)
	if !slices.Equal(r.Gossip(), []string{"c"}) {
		t.Fatalf("gossip: %v", r.Gossip())
	}
	if !r.beat("c") {
		t.Fatal("a return is no change")
	}
	r.beat("b")
	r.pass(time.Second, func() { r.beat("b") })
	if n := r.Status()["c"].Suspicions; n != 2 || r.Status()["b"].Suspicions != 0 {
		t.Fatalf("c was suspected %d times, b %d", n, r.Status()["b"].Suspicions)
	}
	r.beat("c")
	r.want("c", Alive, false)
}

func TestRefusalMeansProcessDown(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(7*time.Second, func() { r.beat("c"); r.Refused("b", r.now) })
	r.want("b", ProcessDown, false)
	r.pass(1200*time.Millisecond, func() { r.beat("c"); r.Refused("b", r.now) })
	r.want("b", ProcessDown, true)
	// The host goes too: the kernel's answers stop.
	r.pass(refusalFresh, func() { r.beat("c") })
	r.want("b", Silent, true)
	// A restart wipes the slate.
	r.beat("b")
	r.pass(300*time.Millisecond, func() { r.beat("c"); r.Refused("b", r.now) })
	r.want("b", ProcessDown, false)
}

// A kernel that lets one refusal out per second must not look dead in between.
func TestRateLimitedRefusals(t *testing.T) {
	r := newRig(t, "b", "c")
	n := 0
	r.pass(6*time.Second, func() {
		r.beat("c")
		if n++; n%50 == 1 {
			r.Refused("b", r.now)
		}
		if r.peers["b"].State == Silent {
			t.Fatalf("silent at %v", r.now)
		}
	})
}

// A hamgr that is killed again right after its restart: the kernel has refused a moment ago,
// and may not do so again yet. Then its silence counts.
func TestKilledAgain(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(time.Second, func() { r.beat("b"); r.beat("c") })
	r.pass(400*time.Millisecond, func() { r.beat("c"); r.Refused("b", r.now) })
	r.pass(300*time.Millisecond, func() { r.beat("b"); r.beat("c") })
	r.want("b", Alive, false)
	r.pass(refusalPause-400*time.Millisecond, func() { r.beat("c") })
	r.want("b", ProcessDown, false)
	r.pass(500*time.Millisecond, func() { r.beat("c") })
	r.want("b", Silent, true)
}

func TestMajority(t *testing.T) {
	r := newRig(t, "b", "c", "w")
	voters := []string{"a", "b", "c"}
	r.pass(time.Second, func() { r.beat("b"); r.beat("c") })
	if yes, _ := r.Suspected("w", voters, r.now); yes {
		t.Fatal("one vote of three is a majority")
	}
	r.beat("b", "w")
	if yes, cause := r.Suspected("w", voters, r.now); !yes || !strings.HasSuffix(cause, "2 of 3 managers") {
		t.Fatalf("two votes of three: %s, %v", cause, yes)
	}
	// A voter that has fallen silent takes its vote along.
	r.pass(time.Second, func() { r.beat("c") })
	if yes, _ := r.Suspected("w", voters, r.now); yes || r.Votes("w", voters) != 1 {
		t.Fatalf("after b fell silent: %d votes, %v", r.Votes("w", voters), yes)
	}
	if yes, _ := r.Suspected("b", voters, r.now); yes {
		t.Fatal("b was given up by one of three")
	}
}

func TestIsolatedAccusesItselfOnly(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(time.Second, nil)
	if !r.Isolated() || !slices.Equal(r.Gossip(), []string{"a"}) {
		t.Fatalf("isolated %v, gossip %v", r.Isolated(), r.Gossip())
	}
	r.Refused("b", r.now)
	r.Tick(r.now)
	if r.Isolated() {
		t.Fatal("a kernel answered, yet isolated")
	}
	if newRig(t).Isolated() {
		t.Fatal("a node without peers is isolated from nobody")
	}
}

// Time in which this process stood still is not the peers' silence.
func TestOwnPauseIsForgiven(t *testing.T) {
	r := newRig(t, "b")
	r.pass(time.Second, func() { r.beat("b") })
	r.now = r.now.Add(time.Minute)
	r.Tick(r.now)
	r.want("b", Alive, false)
	r.pass(300*time.Millisecond, nil)
	r.want("b", Silent, true)
}

// A refusal is known at once, and until the next heartbeat.
func TestRefusedShows(t *testing.T) {
	r := newRig(t, "b")
	r.beat("b")
	if r.Refused("b", r.now); !r.Status()["b"].Refused {
		t.Fatal("a refusal does not show")
	}
	r.want("b", Alive, false)
	if r.beat("b"); r.Status()["b"].Refused {
		t.Fatal("a refusal shows though the peer was heard since")
	}
}

func TestIncarnations(t *testing.T) {
	r := newRig(t, "b")
	beat := func(inc, seq uint64) bool {
		return r.Heard(Heartbeat{Sender: "b", Incarnation: inc, Sequence: seq}, r.now)
	}
	if !beat(5, 10) || r.peers["b"].Started != 5 {
		t.Fatal("the first heartbeat is a change")
	}
	r.now = r.now.Add(100 * time.Millisecond)
	heard := r.peers["b"].LastHeard
	if beat(5, 10); r.peers["b"].LastHeard != heard {
		t.Fatal("a doubled packet counted")
	}
	if beat(4, 99); r.peers["b"].Started != 5 {
		t.Fatal("a packet of the former process counted")
	}
	if !beat(6, 1) {
		t.Fatal("a restart is a change")
	}
	r.pass(time.Second, nil)
	if !beat(3, 1) || r.peers["b"].State != Alive {
		t.Fatal("a host whose clock went back stays dead")
	}
	if r.Heard(Heartbeat{Sender: "stranger", Incarnation: 1, Sequence: 1}, r.now) || len(r.peers) != 1 {
		t.Fatal("a stranger was taken in")
	}
}

func TestSetPeersKeepsWhatIsKnown(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(time.Second, func() { r.beat("b") })
	r.SetPeers([]string{"c", "d"}, r.now)
	r.want("c", Silent, true)
	r.want("d", Alive, false)
	if got := r.Peers(); !slices.Equal(got, []string{"c", "d"}) {
		t.Fatalf("peers %v", got)
	}
}

// A host that is heard on the second path gets a detour's time; one that is heard on none,
// no more than before.
func TestSecondPath(t *testing.T) {
	r := newRig(t, "b", "c", "d")
	r.pass(900*time.Millisecond, func() {
		r.beat("d")
		r.seq++
		r.HeardSecond(Heartbeat{Sender: "b", Incarnation: 1, Sequence: r.seq, Suspects: []string{"c"}}, r.now)
	})
	r.want("b", SecondPath, false)
	r.want("c", Silent, true)
	if r.Votes("c", []string{"b"}) != 0 {
		t.Fatal("a node that is cut off has a vote")
	}
	if r.Silence("b", r.now) != 0 {
		t.Fatal("a host that is heard counts as silent")
	}
	late := Heartbeat{Sender: "b", Incarnation: 1, Sequence: 1}
	r.pass(240*time.Millisecond, func() { r.beat("d"); r.HeardSecond(late, r.now) })
	r.want("b", SecondPath, true)
	r.pass(20*time.Millisecond, func() { r.beat("d"); r.HeardSecond(late, r.now) })
	r.want("b", Silent, true) // late packets prove nothing
	if _, cause := r.Suspected("b", []string{"a"}, r.now); !strings.Contains(cause, "second path for 2") {
		t.Fatal(cause)
	}
	r.beat("b")
	r.want("b", Alive, false)
}

func TestIsolatedThoughHeardElsewhere(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(time.Second, func() {
		r.seq++
		r.HeardSecond(Heartbeat{Sender: "b", Incarnation: 1, Sequence: r.seq}, r.now)
	})
	if !r.Isolated() || !slices.Equal(r.Gossip(), []string{"a"}) {
		t.Fatalf("isolated %v, gossip %v", r.Isolated(), r.Gossip())
	}
}

// A network that fails in one direction: b is heard, and hears nobody.
func TestDeaf(t *testing.T) {
	r := newRig(t, "b", "c")
	voters := []string{"a", "b", "c"}
	r.pass(200*time.Millisecond, func() { r.beat("b", "b"); r.beat("c") })
	r.want("b", Alive, false) // its word alone, for a moment, may be its own fault
	r.pass(100*time.Millisecond, func() { r.beat("b", "b"); r.beat("c") })
	r.want("b", Deaf, true)
	if yes, cause := r.Suspected("b", voters, r.now); !yes || !strings.Contains(cause, "hears nobody") {
		t.Fatalf("suspected: %v, %s", yes, cause)
	}
	if r.Silence("b", r.now) != 0 || r.Isolated() {
		t.Fatal("b is heard")
	}
	r.beat("b")
	r.want("b", Alive, false)
}
