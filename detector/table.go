package detector

import (
	"maps"
	"slices"
	"time"

	"github.com/hamgr/hamgr/detector/lease"
)

// State is what a node makes of a peer.
type State string

// The states of a peer; see the drawing in the package documentation.
const (
	Alive       State = "alive"
	Silent      State = "silent"
	ProcessDown State = "process-down"
)

// refusalFresh is for how long a refusal proves the peer's kernel alive: longer than
// the second between two that a kernel lets itself send.
const refusalFresh = 2500 * time.Millisecond

// PeerStatus is what this node knows about one peer.
type PeerStatus struct {
	State     State
	Suspect   bool            // this node's own vote
	LastHeard time.Time       // last heartbeat; when the peer was added, if there was none
	HostSeen  time.Time       // last sign of life of its kernel, a heartbeat or a refusal
	Since     time.Time       // of State
	Started   uint64          // its incarnation: another number is another process; 0 before the first heartbeat
	Suspects  map[string]bool // whom that peer suspects; not for writing
}

// table is the judgement, without sockets or clock: each method is told the time.
type table struct {
	self    string
	timeout time.Duration
	grace   time.Duration
	peers   map[string]*peer
	ticked  time.Time
}

type peer struct {
	PeerStatus
	sequence  uint64
	refused   time.Time // last refusal
	downSince time.Time // first refusal since it was heard
}

func newTable(self string, timeout, grace time.Duration) *table {
	return &table{self: self, timeout: timeout, grace: grace, peers: map[string]*peer{}}
}

// setPeers keeps what is known of those who stay. A new one has Timeout to be heard.
func (t *table) setPeers(names []string, now time.Time) {
	next := map[string]*peer{}
	for _, n := range names {
		if next[n] = t.peers[n]; next[n] == nil {
			next[n] = &peer{PeerStatus: PeerStatus{State: Alive, LastHeard: now, HostSeen: now, Since: now}}
		}
	}
	t.peers = next
}

// heard takes a heartbeat in and says whether it changed anything but the times.
// Late and doubled packets are dropped, and so is an older incarnation, unless the
// newer has fallen silent: a clock may have been set back between two starts.
func (t *table) heard(p packet, now time.Time) bool {
	peer := t.peers[p.sender]
	if peer == nil {
		return false
	}
	restarted := p.incarnation != peer.Started
	if !restarted && p.sequence <= peer.sequence {
		return false
	}
	if restarted && p.incarnation < peer.Started && peer.State == Alive {
		return false
	}
	suspects := map[string]bool{}
	for _, n := range p.suspects {
		suspects[n] = true
	}
	changed := restarted || !maps.Equal(suspects, peer.Suspects)
	peer.Started, peer.sequence, peer.Suspects = p.incarnation, p.sequence, suspects
	peer.LastHeard, peer.HostSeen = now, now
	peer.refused, peer.downSince = time.Time{}, time.Time{}
	return t.judge(peer, now) || changed
}

// refused notes that the peer's kernel answered: nobody listens there.
func (t *table) refused(name string, now time.Time) {
	peer := t.peers[name]
	if peer == nil {
		return
	}
	if peer.downSince.IsZero() {
		peer.downSince = now
	}
	peer.refused, peer.HostSeen = now, now
}

// tick judges every peer and says whether anything changed. Time in which this process
// itself stood still is not held against the peers: their heartbeats wait in our socket.
func (t *table) tick(now time.Time) bool {
	if gap := now.Sub(t.ticked); !t.ticked.IsZero() && gap > t.timeout/2 {
		for _, p := range t.peers {
			p.LastHeard, p.HostSeen = shift(p.LastHeard, gap), shift(p.HostSeen, gap)
			p.refused, p.downSince = shift(p.refused, gap), shift(p.downSince, gap)
		}
	}
	t.ticked = now
	changed := false
	for _, p := range t.peers {
		changed = t.judge(p, now) || changed
	}
	return changed
}

func shift(at time.Time, by time.Duration) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(by)
}

// judge is the one transition function of a peer.
func (t *table) judge(p *peer, now time.Time) bool {
	state, suspect := Alive, false
	switch {
	case now.Sub(p.LastHeard) < t.timeout:
	case !p.refused.IsZero() && now.Sub(p.refused) < refusalFresh:
		state, suspect = ProcessDown, now.Sub(p.downSince) >= t.grace
	default:
		state, suspect = Silent, true
	}
	changed := state != p.State || suspect != p.Suspect
	if state != p.State {
		p.Since = now
	}
	p.State, p.Suspect = state, suspect
	return changed
}

// isolated: no peer's kernel gives a sign of life, so the one cut off may be this node.
func (t *table) isolated() bool {
	for _, p := range t.peers {
		if p.State != Silent {
			return false
		}
	}
	return len(t.peers) > 0
}

// gossip is what the next heartbeat says. An isolated node accuses itself only.
func (t *table) gossip() []string {
	if t.isolated() {
		return []string{t.self}
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(t.peers)) {
		if t.peers[n].Suspect {
			out = append(out, n)
		}
	}
	return out
}

// echoes are what of each peer was heard last.
func (t *table) echoes() map[string]lease.Echo {
	out := make(map[string]lease.Echo, len(t.peers))
	for n, p := range t.peers {
		out[n] = lease.Echo{Incarnation: p.Started, Sequence: p.sequence}
	}
	return out
}

// suspected counts the voters that suspect name. The word of a voter counts while it is
// heard; that of the accused about itself counts too.
func (t *table) suspected(name string, voters []string) (votes int, majority bool) {
	for _, v := range voters {
		if t.votes(v, name) {
			votes++
		}
	}
	return votes, votes > len(voters)/2
}

func (t *table) votes(voter, about string) bool {
	if voter == t.self {
		if about == t.self {
			return t.isolated()
		}
		p := t.peers[about]
		return p != nil && p.Suspect
	}
	p := t.peers[voter]
	return p != nil && p.State == Alive && p.Suspects[about]
}
