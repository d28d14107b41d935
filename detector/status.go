package detector

import (
	"fmt"
	"time"

	"github.com/hamgr/hamgr/detector/lease"
)

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
	out := make(map[string]PeerStatus, len(d.table.peers))
	for name, p := range d.table.peers {
		out[name] = p.PeerStatus
	}
	return out
}

// Suspected says whether more than half of voters (this node among them, if named)
// suspect peer, and in words why.
func (d *Detector) Suspected(peer string, voters []string) (bool, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	votes, majority := d.table.suspected(peer, voters)
	if !majority {
		return false, ""
	}
	return true, d.causeLocked(peer, votes, len(voters))
}

func (d *Detector) causeLocked(name string, votes, voters int) string {
	p := d.table.peers[name]
	by := fmt.Sprintf("suspected by %d of %d managers", votes, voters)
	if p == nil {
		return by
	}
	ago := d.cfg.Now().Sub(p.LastHeard).Round(time.Millisecond)
	switch p.State {
	case ProcessDown:
		return fmt.Sprintf("hamgr on %s has been gone for %v though its host answers; %s", name, ago, by)
	case Silent:
		return fmt.Sprintf("no heartbeat from %s for %v; %s", name, ago, by)
	}
	return by
}

// Silence is for how long no sign of life has come from the host of peer, its kernel
// included; 0 while it is not Silent, and for this node itself.
func (d *Detector) Silence(peer string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.table.peers[peer]
	if p == nil || p.State != Silent {
		return 0
	}
	return d.cfg.Now().Sub(p.HostSeen)
}

// SelfIsolated says that this node hears nobody, though it has peers: it may be the one
// cut off and should not act on what it sees.
func (d *Detector) SelfIsolated() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.isolated()
}

// Lease is when this node's lease ends (package lease); zero or past: it has none.
// managers are all of them, applied is the index up to which this node knows what was
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
	p := d.table.peers[peer]
	if p == nil {
		return 0
	}
	return d.cfg.Now().Sub(p.LastHeard)
}
