package rules

import "github.com/hamgr/hamgr/hamgr/core"

// Replica names what a connection from a primary brings, or has brought.
type Replica struct {
	Domain, UUID string
	Generation   uint64
}

// Refusal is why a node does not take a replica.
type Refusal int

// The refusals.
const (
	Admitted Refusal = iota
	NotMine          // this node is not the backup of that guest
	Stale            // of a generation that is over
)

// Admit says whether node is to take replica r, by a state not older than the primary's.
func Admit(node string, s core.State, r Replica) Refusal {
	p, ok := s.Protections[r.Domain]
	switch {
	case !ok || p.Backup != node || p.UUID != r.UUID:
		return NotMine
	case p.Generation != r.Generation:
		return Stale
	}
	return Admitted
}

// TakesOver says that node is to restore the guest from replica r.
func TakesOver(node string, p core.Protection, r Replica) bool {
	return p.Primary == node && p.Phase == core.Recovering && p.UUID == r.UUID && p.Generation == r.Generation+1
}

// Obsolete says that the cluster no longer wants replica r of node; ok is false when the
// guest is not protected any more.
func Obsolete(node string, r Replica, p core.Protection, ok bool) bool {
	if !ok || p.UUID != r.UUID {
		return true
	}
	if p.Primary == node && p.Generation == r.Generation+1 {
		return false // being taken over
	}
	return p.Generation > r.Generation
}
