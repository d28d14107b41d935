package bufferqdisc

import (
	"fmt"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/gate"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
)

// Gate is a deadline for output that no buffer holds, kept by the kernel: the lease of
// mode checkpoint and of solo. It stands before the buffer of the same taps, and a
// packet has to pass both. To change from one to the other without an instant of
// output that neither fences:
//
//	gate to buffer:  Buffer.Hold, then Gate.Close
//	buffer to gate:  NewGate or Gate.Extend, then Buffer.Open, with the cluster's leave
//
// Close the gate while a buffer holds, or extend it: what a relay releases has to pass it as
// well, or waits there.
type Gate = gate.Gate

// GateStats says whether a gate is open, what waits for that, and counts what it dropped.
type GateStats = gate.Stats

// ErrWallClock: a gate's deadline has to carry a monotonic reading.
var ErrWallClock = gate.ErrWallClock

// NewGate puts a gate on a guest's taps, open until a time; the zero Time is closed. It
// takes the place of one that an earlier process left. ErrInTheWay and the other
// conditions for a tap are those of Setup; one that an earlier buffer cut can be gated,
// and opened behind the gate by ClearBuffer.
func NewGate(name string, taps []string, until time.Time) (*Gate, error) {
	h, err := hook.Dial()
	if err != nil {
		return nil, err
	}
	g, err := gate.New(h, taps, until)
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", name, err)
	}
	return g, nil
}
