package judge

import (
	"fmt"
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
	SecondPath  State = "second-path" // heard there, and not where it should be
	Deaf        State = "deaf"        // heard, and says that it hears nobody
)

// refusalFresh is for how long a refusal proves the peer's kernel alive: longer than
// the second between two that a kernel lets itself send.
const refusalFresh = 2500 * time.Millisecond

// refusalPause is for how long a kernel may be silent after a refusal because it has sent
// enough of them: a second (icmp_ratelimit, icmp(7)), and what the way takes.
const refusalPause = 1100 * time.Millisecond

// PeerStatus is what this node knows about one peer.
type PeerStatus struct {
	State     State
	Suspect   bool            // this node's own vote
	LastHeard time.Time       // last heartbeat; when the peer was added, if there was none
	HostSeen  time.Time       // last sign of life of its kernel: a heartbeat on any path, or a refusal
	Since     time.Time       // of State
	Refused   bool            // its kernel has said since, that nobody listens there
	Started   uint64          // its incarnation: another number is another process; 0 before the first heartbeat
	Suspects  map[string]bool // whom that peer suspects; not for writing

	Suspicions uint64 // how often this node has begun to suspect it
}

// Heartbeat is what a peer says of itself and of others.
type Heartbeat struct {
	Sender      string
	Incarnation uint64 // when the sender's process started, in ns since 1970
	Sequence    uint64 // grows by one with each heartbeat of an incarnation
	Suspects    []string
}

// Table is what one node makes of its peers. It is not safe for concurrent use.
type Table struct {
	self    string
	timeout time.Duration
	floor   time.Duration // of the patience with a peer, see Adapt; timeout if not adapted
	grace   time.Duration
	detour  time.Duration // of silence until one heard on the second path only is suspected
	peers   map[string]*peer
	ticked  time.Time
}

type peer struct {
	PeerStatus
	sequence  uint64
	beats     int           // heartbeats of this incarnation, up to adaptAfter
	widest    time.Duration // gap between two of them, fading
	second    place         // on the second path
	deafSince time.Time     // it has said since that it hears nobody
	refused   time.Time     // last refusal
	downSince time.Time     // first refusal since it was heard
}

// place is how far the heartbeats on a path have got.
type place struct {
	incarnation, sequence uint64
	at                    time.Time
}

// DefaultDetour is for how long a host is spared that is heard on the second path only.
const DefaultDetour = time.Second

// New makes the table of the node self. A peer is suspected after timeout of silence, or
// after grace if its host's kernel answers meanwhile.
func New(self string, timeout, grace time.Duration) *Table {
	return &Table{self: self, timeout: timeout, floor: timeout, grace: grace, detour: DefaultDetour, peers: map[string]*peer{}}
}

const (
	// adaptAfter heartbeats it is known how regular a peer is.
	adaptAfter = 256
	// suspicious is the level of suspicion, silence in terms of the widest recent gap, from
	// which a peer is suspected.
	suspicious = 4
	// fading is by how much of itself the widest gap narrows with each heartbeat: half of
	// it in 710.
	fading = 1024
)

// Adapt makes the table less patient with peers whose heartbeats come regularly. The level
// of suspicion is the silence in terms of the widest gap between two recent heartbeats, so
// it grows with time as in an accrual detector (Hayashibara et al., The phi accrual failure
// detector, SRDS 2004); the threshold is suspicious, within floor and the timeout.
func (t *Table) Adapt(floor time.Duration) { t.floor = min(floor, t.timeout) }

// Detour sets for how long a host is spared that is heard on the second path only.
func (t *Table) Detour(d time.Duration) { t.detour = d }

// patience is for how long a peer may be silent.
func (t *Table) patience(p *peer) time.Duration {
	if p.beats < adaptAfter {
		return t.timeout
	}
	return min(max(suspicious*p.widest, t.floor), t.timeout)
}

// regular takes in how long a heartbeat was waited for.
func (p *peer) regular(gap time.Duration, restarted bool) {
	if restarted {
		p.beats, p.widest = 0, 0
		return
	}
	p.beats = min(p.beats+1, adaptAfter)
	p.widest = max(gap, p.widest-p.widest/fading)
}

// SetPeers keeps what is known of those who stay. A new one has the timeout to be heard.
func (t *Table) SetPeers(names []string, now time.Time) {
	next := map[string]*peer{}
	for _, n := range names {
		if next[n] = t.peers[n]; next[n] == nil {
			next[n] = &peer{PeerStatus: PeerStatus{State: Alive, LastHeard: now, HostSeen: now, Since: now}}
		}
	}
	t.peers = next
}

// Heard takes a heartbeat in and says whether it changed anything but the times.
// Late and doubled packets are dropped, and so is an older incarnation, unless the
// newer has fallen silent: a clock may have been set back between two starts.
func (t *Table) Heard(h Heartbeat, now time.Time) bool {
	peer := t.peers[h.Sender]
	if peer == nil {
		return false
	}
	restarted := h.Incarnation != peer.Started
	if !restarted && h.Sequence <= peer.sequence {
		return false
	}
	if restarted && h.Incarnation < peer.Started && peer.State == Alive {
		return false
	}
	changed := restarted || !same(peer.Suspects, h.Suspects)
	if changed {
		peer.Suspects = map[string]bool{}
		for _, n := range h.Suspects {
			peer.Suspects[n] = true
		}
	}
	peer.regular(now.Sub(peer.LastHeard), restarted)
	peer.Started, peer.sequence = h.Incarnation, h.Sequence
	peer.LastHeard, peer.HostSeen = now, now
	peer.downSince, peer.Refused = time.Time{}, false
	if deaf := peer.Suspects[h.Sender]; !deaf || restarted {
		peer.deafSince = time.Time{}
	} else if peer.deafSince.IsZero() {
		peer.deafSince = now
	}
	return t.judge(peer, now) || changed
}

// HeardSecond takes a heartbeat in that came by the second path. It proves that the host
// lives and says no more: what a node that is cut off thinks of others does not count.
func (t *Table) HeardSecond(h Heartbeat, now time.Time) bool {
	peer := t.peers[h.Sender]
	if peer == nil || h.Incarnation == peer.second.incarnation && h.Sequence <= peer.second.sequence {
		return false
	}
	if h.Incarnation < max(peer.second.incarnation, peer.Started) && now.Sub(peer.second.at) < t.timeout {
		return false
	}
	peer.second = place{h.Incarnation, h.Sequence, now}
	peer.HostSeen = now
	return t.judge(peer, now)
}

// same says whether set is made of names; a sender names nobody twice.
func same(set map[string]bool, names []string) bool {
	if len(set) != len(names) {
		return false
	}
	for _, n := range names {
		if !set[n] {
			return false
		}
	}
	return true
}

// Refused notes that the peer's kernel answered: nobody listens there.
func (t *Table) Refused(name string, now time.Time) {
	peer := t.peers[name]
	if peer == nil {
		return
	}
	if peer.downSince.IsZero() {
		peer.downSince = now
	}
	peer.refused, peer.HostSeen, peer.PeerStatus.Refused = now, now, true
}

// Tick judges every peer and says whether anything changed. Time in which this process
// itself stood still is not held against the peers: their heartbeats wait in our socket.
func (t *Table) Tick(now time.Time) bool {
	if gap := now.Sub(t.ticked); !t.ticked.IsZero() && gap > t.floor/2 {
		for _, p := range t.peers {
			p.LastHeard, p.HostSeen = shift(p.LastHeard, gap), shift(p.HostSeen, gap)
			p.refused, p.downSince = shift(p.refused, gap), shift(p.downSince, gap)
			p.second.at, p.deafSince = shift(p.second.at, gap), shift(p.deafSince, gap)
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
func (t *Table) judge(p *peer, now time.Time) bool {
	state, suspect := Alive, false
	switch {
	case now.Sub(p.LastHeard) < t.patience(p):
		if !p.deafSince.IsZero() && now.Sub(p.deafSince) >= t.timeout {
			state, suspect = Deaf, true
		}
	case p.refusedLately(now):
		state, suspect = ProcessDown, !p.downSince.IsZero() && now.Sub(p.downSince) >= t.grace
	case !p.second.at.IsZero() && now.Sub(p.second.at) < t.patience(p):
		state, suspect = SecondPath, now.Sub(p.LastHeard) >= t.detour
	default:
		state, suspect = Silent, true
	}
	changed := state != p.State || suspect != p.Suspect
	if state != p.State {
		p.Since = now
	}
	if suspect && !p.Suspect {
		p.Suspicions++
	}
	p.State, p.Suspect = state, suspect
	return changed
}

// refusedLately says that the peer's kernel lives, or may not have been at liberty to say so:
// it has refused a short while ago, before a hamgr that has fallen silent since was there.
func (p *peer) refusedLately(now time.Time) bool {
	if p.refused.IsZero() {
		return false
	}
	if p.LastHeard.After(p.refused) {
		return now.Sub(p.refused) < refusalPause
	}
	return now.Sub(p.refused) < refusalFresh
}

// Isolated says that no peer's kernel gives a sign of life where it should, though there
// are peers: the one cut off may be this node.
func (t *Table) Isolated() bool {
	for _, p := range t.peers {
		if p.State != Silent && p.State != SecondPath {
			return false
		}
	}
	return len(t.peers) > 0
}

// Gossip is whom the next heartbeat suspects, by name. An isolated node accuses itself only.
func (t *Table) Gossip() []string {
	if t.Isolated() {
		return []string{t.self}
	}
	var out []string
	for n, p := range t.peers {
		if p.Suspect {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Echo is what was heard of a peer last, for package lease; the sender adds its term.
func (t *Table) Echo(name string) lease.Echo {
	p := t.peers[name]
	if p == nil {
		return lease.Echo{}
	}
	return lease.Echo{Incarnation: p.Started, Sequence: p.sequence}
}

// Status is what is known of each peer.
func (t *Table) Status() map[string]PeerStatus {
	out := make(map[string]PeerStatus, len(t.peers))
	for name, p := range t.peers {
		out[name] = p.PeerStatus
	}
	return out
}

// Suspected says whether more than half of voters (this node among them, if named)
// suspect name, and in words why. The word of a voter counts while it is heard; that of
// the accused about itself counts too.
func (t *Table) Suspected(name string, voters []string, now time.Time) (bool, string) {
	votes := t.Votes(name, voters)
	if votes <= len(voters)/2 {
		return false, ""
	}
	return true, t.cause(name, votes, len(voters), now)
}

// Votes counts the voters that suspect name.
func (t *Table) Votes(name string, voters []string) (votes int) {
	for _, v := range voters {
		if t.votes(v, name) {
			votes++
		}
	}
	return votes
}

func (t *Table) votes(voter, about string) bool {
	if voter == t.self {
		if about == t.self {
			return t.Isolated()
		}
		p := t.peers[about]
		return p != nil && p.Suspect
	}
	p := t.peers[voter]
	return p != nil && (p.State == Alive || p.State == Deaf) && p.Suspects[about] // a deaf one accuses itself only
}

func (t *Table) cause(name string, votes, voters int, now time.Time) string {
	p := t.peers[name]
	by := fmt.Sprintf("suspected by %d of %d managers", votes, voters)
	if p == nil {
		return by
	}
	ago := now.Sub(p.LastHeard).Round(time.Millisecond)
	switch p.State {
	case ProcessDown:
		return fmt.Sprintf("hamgr on %s has been gone for %v though its host answers; %s", name, ago, by)
	case Deaf:
		return fmt.Sprintf("%s is heard, but has said for %v that it hears nobody; %s", name, now.Sub(p.deafSince).Round(time.Millisecond), by)
	case SecondPath:
		return fmt.Sprintf("%s is heard on its second path only, no heartbeat for %v; %s", name, ago, by)
	case Silent:
		if at := p.second.at; !at.IsZero() {
			return fmt.Sprintf("no heartbeat from %s for %v, on its second path for %v; %s", name, ago, now.Sub(at).Round(time.Millisecond), by)
		}
		return fmt.Sprintf("no heartbeat from %s for %v; %s", name, ago, by)
	}
	return by
}

// Silence is for how long no sign of life has come from the host of peer, its kernel
// included; 0 while it is not Silent, and for this node itself.
func (t *Table) Silence(peer string, now time.Time) time.Duration {
	p := t.peers[peer]
	if p == nil || p.State != Silent {
		return 0
	}
	return now.Sub(p.HostSeen)
}

// Unheard is for how long no heartbeat of peer has come, whatever its kernel answers. A
// peer that is not known has not been heard for no time at all.
func (t *Table) Unheard(peer string, now time.Time) time.Duration {
	p := t.peers[peer]
	if p == nil {
		return 0
	}
	return now.Sub(p.LastHeard)
}

// Peers are the names of all peers, in order.
func (t *Table) Peers() []string { return slices.Sorted(maps.Keys(t.peers)) }
