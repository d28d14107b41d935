package hook

import "errors"

var (
	// ErrCut: nothing passes the tap since an Abandon, or since the death of a process that held it.
	ErrCut = errors.New("the output is cut")
	// ErrInTheWay: somebody else's hook sits where ours has to.
	ErrInTheWay = errors.New("something else handles the tap's ingress")
	// ErrNotEnded: an epoch that has not ended was to be released. Nothing was.
	ErrNotEnded = errors.New("the epoch has not ended")
	// ErrLate: the time for a release was over; what is left is held.
	ErrLate = errors.New("it is too late to release")
	// ErrClosed: the buffer was torn down.
	ErrClosed = errors.New("the buffer was torn down")
	// ErrLost: a device of ours is gone or was reset, and with it packets of an epoch under way.
	ErrLost = errors.New("a buffer device was lost or reset")
)

// Stats counts packets and bytes of Ethernet frames. Held is now, the rest since Setup.
// A large (GSO) packet counts as one.
type Stats struct {
	Backend       string `json:"backend"`
	Holding       bool   `json:"holding"`
	HeldPackets   uint64 `json:"held_packets"`
	HeldBytes     uint64 `json:"held_bytes"`
	Released      uint64 `json:"released_packets"`
	ReleasedBytes uint64 `json:"released_bytes"`
	// Dropped was not sent and never will be: over the limit, refused by the kernel, abandoned.
	Dropped      uint64 `json:"dropped_packets"`
	DroppedBytes uint64 `json:"dropped_bytes"`
}
