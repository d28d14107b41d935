package rules

import "github.com/hamgr/hamgr/hamgr/core"

// Boundary says what happens to the output at the end of an epoch, while the guest stands
// still: whether the buffer is to hold from now on, or to let go behind the gate. The
// first checkpoint of a session ends the time of open output; a change of mode takes
// effect; a guest that is to move is held, so that nothing is seen that moves without it.
func Boundary(o core.Protection) (hold, letGo bool) {
	hold = o.Mode == core.Buffer && o.Wanted == "" || o.Wanted == core.Buffer || o.Moving
	return hold, o.Mode == core.Checkpoint && o.Wanted == "" && !o.Moving
}

// ModeStep says what is to be done for a change of mode after an epoch was committed: tell
// the cluster that the mode wanted can be put in force, or take away the gate that has
// done its work. asked is the mode that the cluster was told of last.
func ModeStep(o core.Protection, held bool, asked core.Mode) (tell, closeGate bool) {
	if o.Wanted == "" {
		return false, o.Mode == core.Buffer && held
	}
	return o.Wanted != asked && (o.Wanted != core.Buffer || held), false
}

// MayExtend says that the gate of a guest may be kept open with this node's lease. o is the
// order its job has, nil if the protection is over. It and the index that the lease is
// asked for (package lease: the changes of ownership that this node knows of) have to be of
// one and the same reconciled state: a node that has heard of a failover and not acted on
// it yet does not know of it.
func MayExtend(node string, o *core.Protection) bool { return o != nil && o.Primary == node }

// Leased says that the output of a guest is to be behind the gate wherever nothing is held:
// in phases in which another node may be told to let a copy speak once this one's lease is
// over. Of a guest that stays lost when it is lost, none speaks but this one in solo.
func Leased(o core.Protection) bool {
	session := o.Phase == core.Syncing || o.Phase == core.Protected
	return o.OnLoss == core.OnLossRestart || o.Mode == core.Checkpoint && session
}
