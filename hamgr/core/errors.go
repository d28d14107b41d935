package core

import "errors"

// The reasons for which Apply refuses a command. The error says which domain or node,
// what was found there and what to do; match with errors.Is.
var (
	// ErrStaleGeneration: somebody else changed the protection first. Read the state again.
	ErrStaleGeneration = errors.New("stale generation")
	// ErrUnknownDomain: the domain is not protected.
	ErrUnknownDomain = errors.New("domain is not protected")
	// ErrAlreadyProtected: the domain, or another name with the same UUID, is protected.
	ErrAlreadyProtected = errors.New("domain is already protected")
	// ErrNodeNameTaken: a different host runs under this node name.
	ErrNodeNameTaken = errors.New("node name is taken")
	// ErrWrongPhase: the command does not apply in the phase the protection is in.
	ErrWrongPhase = errors.New("wrong phase")
	// ErrUnfenced: in this mode the primary could emit on, beside the new one.
	ErrUnfenced = errors.New("the primary's output is not held")
	// ErrReplicaLost: the backup's hamgr was restarted, and the replica went with it.
	ErrReplicaLost = errors.New("the replica is gone")
	// ErrUnknownNode: no node of that name has registered.
	ErrUnknownNode = errors.New("unknown node")
	// ErrBadCommand: the command contradicts itself or lacks a part.
	ErrBadCommand = errors.New("bad command")
)

// Refused says whether err is Apply's final word on a command: the cluster has seen the
// command and it changed nothing, so to send the same again is no use.
func Refused(err error) bool {
	for _, e := range []error{ErrStaleGeneration, ErrUnknownDomain, ErrAlreadyProtected,
		ErrNodeNameTaken, ErrWrongPhase, ErrUnfenced, ErrReplicaLost, ErrUnknownNode, ErrBadCommand} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
