package commit

import (
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// What was done to a host.
type What string

// What can be done to one.
const (
	// LinkDown: nothing came from or to the host over the guests' network.
	LinkDown What = "link down"
	// CutOff: nothing came from or to the host over the management network.
	CutOff What = "cut off"
	// PowerOff: both, and for ever. The fault is over when the switch knows.
	PowerOff What = "power off"
	// GuestKilled: the guest's QEMU was ended, and the host lives.
	GuestKilled What = "guest killed"
	// AgentKilled: hamgr was ended, and the guest lives.
	AgentKilled What = "agent killed"
)

// Fault is a time in which something was done to a host; Until is when it was over.
type Fault struct {
	What  What      `json:"what"`
	Host  string    `json:"host"`
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

// had says that the cluster meant the guest to be on a host, at some time of an interval.
func (t *timeline) had(host string, from, until time.Time) bool {
	last := ""
	for _, o := range t.orders {
		if o.Time.After(from) && (last == host || o.Time.After(until)) {
			break
		}
		last = o.Primary
	}
	return last == host
}

// mode is the one in force at an instant.
func (t *timeline) mode(at time.Time) (mode string) {
	for _, o := range t.orders {
		if o.Time.After(at) {
			break
		}
		mode = o.Mode
	}
	return mode
}

// starts are the times in which sessions begin: from the order until the output is held
// or nothing comes of it.
func (t *timeline) starts() (out []window) {
	moments := slices.Clone(t.orders)
	for _, e := range t.events {
		if e.Kind == trace.Hold || e.Kind == trace.Boundary {
			moments = append(moments, e)
		}
	}
	slices.SortStableFunc(moments, func(a, b trace.Event) int { return a.Time.Compare(b.Time) })
	var begun time.Time
	for _, e := range moments {
		begins := e.Kind == trace.Order && e.Phase == string(core.Syncing)
		switch {
		case begins && begun.IsZero():
			begun = e.Time
		case !begins && !begun.IsZero():
			out = append(out, window{from: begun, until: e.Time})
			begun = time.Time{}
		}
	}
	return out
}
