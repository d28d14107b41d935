package detector

import (
	"time"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/detector/lease"
)

// State is what a node makes of a peer.
type State = judge.State

// The states of a peer; see the drawing in the package documentation.
const (
	Alive       = judge.Alive
	Silent      = judge.Silent
	ProcessDown = judge.ProcessDown
	SecondPath  = judge.SecondPath
	Deaf        = judge.Deaf
)

// PeerStatus is what this node knows about one peer.
type PeerStatus = judge.PeerStatus

// Changed returns a channel that is closed at the next change of any peer's state, of
// this node's vote, or of what a peer suspects. Ask anew after each change, and before
// looking at the Status, so that none is missed.
func (d *Detector) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Status is what this node knows of each peer now.
func (d *Detector) Status() map[string]PeerStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Status()
}

// Suspected says whether more than half of voters (this node among them, if named)
// suspect peer, and in words why.
func (d *Detector) Suspected(peer string, voters []string) (bool, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Suspected(peer, voters, d.cfg.Now())
}

// Silence is for how long no sign of life has come from the host of peer, its kernel
// included; 0 while it is not Silent, and for this node itself.
func (d *Detector) Silence(peer string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Silence(peer, d.cfg.Now())
}

// SelfIsolated says that this node hears nobody, though it has peers: it may be the one
// cut off and should not act on what it sees.
func (d *Detector) SelfIsolated() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Isolated()
}

// Lease is when this node's lease ends (package lease); zero or past: it has none.
// managers are all of them as of applied, the index up to which this node knows what was
// decided.
func (d *Detector) Lease(managers []string, applied uint64) time.Time {
	own := d.voter().Voter // before the time is taken
	now := d.cfg.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.holder.Until(managers, own, applied, lease.Length(d.cfg.Timeout), now)
}

// Unheard is for how long no heartbeat of peer has come, whatever its kernel answers. A
// peer that is not known has not been heard for no time at all.
func (d *Detector) Unheard(peer string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Unheard(peer, d.cfg.Now())
}
