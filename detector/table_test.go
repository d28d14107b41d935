package detector

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rig is a table with a clock that the test turns.
type rig struct {
	*testing.T
	*table
	now time.Time
	seq uint64
}

func newRig(t *testing.T, peers ...string) *rig {
	r := &rig{T: t, table: newTable("a", 250*time.Millisecond, 8*time.Second), now: time.Unix(1000, 0)}
	r.setPeers(peers, r.now)
	r.tick(r.now)
	return r
}

func (r *rig) beat(from string, suspects ...string) bool {
	r.seq++
	return r.heard(packet{sender: from, incarnation: 1, sequence: r.seq, suspects: suspects}, r.now)
}

// pass lets d go by in ticks, with each running before a tick.
func (r *rig) pass(d time.Duration, each func()) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(20 * time.Millisecond)
		if each != nil {
			each()
		}
		r.tick(r.now)
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
	if !slices.Equal(r.gossip(), []string{"c"}) {
		t.Fatalf("gossip: %v", r.gossip())
	}
	if !r.beat("c") {
		t.Fatal("a return is no change")
	}
	r.want("c", Alive, false)
}

func TestRefusalMeansProcessDown(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(7*time.Second, func() { r.beat("c"); r.refused("b", r.now) })
	r.want("b", ProcessDown, false)
	r.pass(1200*time.Millisecond, func() { r.beat("c"); r.refused("b", r.now) })
	r.want("b", ProcessDown, true)
	// The host goes too: the kernel's answers stop.
	r.pass(refusalFresh, func() { r.beat("c") })
	r.want("b", Silent, true)
	// A restart wipes the slate.
	r.beat("b")
	r.pass(300*time.Millisecond, func() { r.beat("c"); r.refused("b", r.now) })
	r.want("b", ProcessDown, false)
}

// A kernel that lets one refusal out per second must not look dead in between.
func TestRateLimitedRefusals(t *testing.T) {
	r := newRig(t, "b", "c")
	n := 0
	r.pass(6*time.Second, func() {
		r.beat("c")
		if n++; n%50 == 1 {
			r.refused("b", r.now)
		}
		if r.peers["b"].State == Silent {
			t.Fatalf("silent at %v", r.now)
		}
	})
}

func TestMajority(t *testing.T) {
	r := newRig(t, "b", "c", "w")
	voters := []string{"a", "b", "c"}
	r.pass(time.Second, func() { r.beat("b"); r.beat("c") })
	if _, yes := r.suspected("w", voters); yes {
		t.Fatal("one vote of three is a majority")
	}
	r.beat("b", "w")
	if n, yes := r.suspected("w", voters); !yes || n != 2 {
		t.Fatalf("two votes of three: %d, %v", n, yes)
	}
	// A voter that has fallen silent takes its vote along.
	r.pass(time.Second, func() { r.beat("c") })
	if n, yes := r.suspected("w", voters); yes || n != 1 {
		t.Fatalf("after b fell silent: %d, %v", n, yes)
	}
	if _, yes := r.suspected("b", voters); yes {
		t.Fatal("b was given up by one of three")
	}
}

func TestIsolatedAccusesItselfOnly(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(time.Second, nil)
	if !r.isolated() || !slices.Equal(r.gossip(), []string{"a"}) {
		t.Fatalf("isolated %v, gossip %v", r.isolated(), r.gossip())
	}
	r.refused("b", r.now)
	r.tick(r.now)
	if r.isolated() {
		t.Fatal("a kernel answered, yet isolated")
	}
	if newRig(t).isolated() {
		t.Fatal("a node without peers is isolated from nobody")
	}
}

// Time in which this process stood still is not the peers' silence.
func TestOwnPauseIsForgiven(t *testing.T) {
	r := newRig(t, "b")
	r.pass(time.Second, func() { r.beat("b") })
	r.now = r.now.Add(time.Minute)
	r.tick(r.now)
	r.want("b", Alive, false)
	r.pass(300*time.Millisecond, nil)
	r.want("b", Silent, true)
}

func TestIncarnations(t *testing.T) {
	r := newRig(t, "b")
	beat := func(inc, seq uint64) bool {
		return r.heard(packet{sender: "b", incarnation: inc, sequence: seq}, r.now)
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
	if r.heard(packet{sender: "stranger", incarnation: 1, sequence: 1}, r.now) || len(r.peers) != 1 {
		t.Fatal("a stranger was taken in")
	}
}

func TestSetPeersKeepsWhatIsKnown(t *testing.T) {
	r := newRig(t, "b", "c")
	r.pass(time.Second, func() { r.beat("b") })
	r.setPeers([]string{"c", "d"}, r.now)
	r.want("c", Silent, true)
	r.want("d", Alive, false)
	if got := slices.Sorted(maps.Keys(r.peers)); !slices.Equal(got, []string{"c", "d"}) {
		t.Fatalf("peers %v", got)
	}
}

func TestPacket(t *testing.T) {
	mine := clusterHash("x")
	p := packet{sender: "h1", incarnation: 7, sequence: 8, suspects: []string{"h2", "h3"}}
	b := p.marshal(mine)
	got, err := unmarshal(append(b, "a later version's"...), mine)
	if err != nil || got.sender != "h1" || got.incarnation != 7 || got.sequence != 8 || !slices.Equal(got.suspects, p.suspects) {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(b) != headLength+3*3 {
		t.Fatalf("%d octets", len(b))
	}
	if _, err := unmarshal(b, clusterHash("y")); !errors.Is(err, errForeign) {
		t.Fatalf("another cluster's: %v", err)
	}
	for n := range b {
		if _, err := unmarshal(b[:n], mine); !errors.Is(err, errForeign) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for range 500 {
		p.suspects = append(p.suspects, strings.Repeat("n", MaxName))
	}
	if b := p.marshal(mine); len(b) > maxPacket {
		t.Fatalf("%d octets", len(b))
	} else if _, err := unmarshal(b, mine); err != nil {
		t.Fatal(err)
	}
}

func TestAnyPacketIsHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := append([]byte(magic), rapid.SliceOf(rapid.Byte()).Draw(t, "rest")...)
		var cluster uint64
		if len(b) >= 12 {
			clear(b[4:12])
		}
		if p, err := unmarshal(b, cluster); err == nil && (p.sender == "" || len(p.suspects) > 254) {
			t.Fatalf("%+v", p)
		}
	})
}
