package commit

import (
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// agentDied is when requests were lost with a guest's agent. That is not all the time until
// there is another: the guest lives, and what it is sent passes by what a dead agent leaves
// on its taps (I6). What waited for the end of a pause is lost, and what comes as the successor
// clears the taps.
func (c *checker) agentDied(f Fault) (out []window) {
	if from := c.timeline.lastPause(f); !from.IsZero() {
		out = append(out, window{"", from.Add(-c.Way), f.Until.Add(slack)}) // until the kernel has closed the process's files
	}
	if from, until := c.timeline.cleared(f); !until.IsZero() {
		out = append(out, window{"", from.Add(-c.Way), until})
	}
	return out
}

// stoodStill is when a guest stood still for want of its agent, which died in a pause: until
// the guest was heard on the host again, or had been given to another. QEMU takes one packet
// of each NIC in then, and throws it away.
func (c *checker) stoodStill(f Fault) (from, until time.Time) {
	if from = c.timeline.lastPause(f); from.IsZero() {
		return from, from
	}
	_, until = c.withoutAgent(f)
	for _, p := range c.packets {
		if p.Host == f.Host && p.Device != "" && slices.Contains(c.MACs, p.src) && p.Time.After(f.Until) && p.Time.Before(until) {
			return from, p.Time
		}
	}
	return from, until
}

// lastPause is the earliest that a pause may have begun that was under way as an agent died:
// the last one that it noted was over then. Zero: it was in no session. The pauses of a first
// copy are of another window, see starting.
func (t *timeline) lastPause(f Fault) (from time.Time) {
	for _, e := range t.events {
		if e.Time.After(f.Until) {
			break
		}
		if e.Node != f.Host {
			continue
		}
		switch e.Kind {
		case trace.Opened, trace.Cut:
			from = time.Time{}
		case trace.Hold, trace.Boundary: // noted in a pause
			if from.IsZero() {
				from = e.Time
				if !e.Asked.IsZero() {
					from = e.Asked
				}
			}
		case trace.Acked:
			from = e.Time
		}
	}
	return from
}

// cleared is when the successor of an agent that died took its filters and queues off the
// taps: after it heard that the guest is to run alone, before it noted that the output is open.
// Zero: another host got the guest first, and with it the copies of its input.
func (t *timeline) cleared(f Fault) (from, until time.Time) {
	for _, e := range t.events {
		switch {
		case !e.Time.After(f.Until):
		case e.Kind == trace.Restored:
			return time.Time{}, time.Time{}
		case e.Node == f.Host && e.Phase == string(core.Solo) && from.IsZero():
			from = e.Time
		case e.Node == f.Host && e.Kind == trace.Opened && !from.IsZero():
			return from, e.Time
		}
	}
	return time.Time{}, time.Time{}
}

// lateMost is for how long output may have waited for a lease when its agent dies.
const lateMost = 500 * time.Millisecond

// withoutAgent is for how long what a guest says is lost for want of an agent: from the last
// boundary before the agent's death whose output was let go, or in mode checkpoint from when
// on it may have waited for a lease, until the new one has opened the output, or another host
// has the guest.
func (c *checker) withoutAgent(f Fault) (from, until time.Time) {
	from, until = f.From, c.end()
	if c.timeline.mode(f.From) == string(core.Checkpoint) {
		from = from.Add(-lateMost)
	}
	for _, e := range c.timeline.events {
		if e.Time.After(f.Until) {
			if e.Kind == trace.Opened && e.Node == f.Host || e.Kind == trace.Restored {
				return from, e.Time
			}
			continue
		}
		if e.Kind != trace.Released || e.Node != f.Host {
			continue
		}
		if o := c.timeline.hosts[f.Host]; o.find(e) >= 0 && c.timeline.mode(f.From) != string(core.Checkpoint) {
			from = o.boundaries[o.find(e)].at
		}
	}
	return from, until
}
