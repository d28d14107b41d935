package judge

import (
	"testing"
	"time"
)

// silentFor is how long it takes until b is suspected after its last heartbeat.
func (r *rig) silentFor() time.Duration {
	last := r.now
	for !r.Status()["b"].Suspect {
		r.now = r.now.Add(time.Millisecond)
		r.Tick(r.now)
		if r.now.Sub(last) > time.Minute {
			r.Fatal("never suspected")
		}
	}
	return r.now.Sub(last)
}

// beats are heartbeats of b, each after one of the gaps, in turn.
func (r *rig) beats(n int, gaps ...time.Duration) {
	for i := range n {
		for end := r.now.Add(gaps[i%len(gaps)]); r.now.Before(end); {
			r.now = r.now.Add(5 * time.Millisecond)
			r.Tick(r.now)
		}
		r.beat("b")
	}
}

// TestAdaptsToThePeer: a regular peer is suspected soon, one with jitter later, and none
// later than the timeout; what was long ago is forgotten.
func TestAdaptsToThePeer(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		live     func(r *rig)
		min, max time.Duration
	}{
		"unknown":       {func(r *rig) { r.beats(adaptAfter-1, 20*ms) }, 250 * ms, 251 * ms},
		"regular":       {func(r *rig) { r.beats(adaptAfter+1, 20*ms) }, 100 * ms, 101 * ms},
		"jitter":        {func(r *rig) { r.beats(400, 20*ms, 40*ms) }, 159 * ms, 161 * ms},
		"very late":     {func(r *rig) { r.beats(400, 20*ms, 200*ms) }, 250 * ms, 251 * ms},
		"calmed down":   {func(r *rig) { r.beats(400, 20*ms, 60*ms); r.beats(2000, 20*ms) }, 100 * ms, 101 * ms},
		"once too late": {func(r *rig) { r.beats(400, 20*ms); r.beats(1, 55*ms); r.beats(1, 20*ms) }, 219 * ms, 221 * ms},
	} {
		r := newRig(t, "b")
		r.Adapt(100 * ms)
		c.live(r)
		if got := r.silentFor(); got < c.min || got > c.max {
			t.Errorf("%s: suspected after %v, want %v to %v", name, got, c.min, c.max)
		}
	}
}

// TestARestartIsUnknown: the heartbeats of a new process say nothing yet.
func TestARestartIsUnknown(t *testing.T) {
	r := newRig(t, "b")
	r.Adapt(80 * time.Millisecond)
	r.beats(400, 20*time.Millisecond)
	r.seq = 0
	r.Heard(Heartbeat{Sender: "b", Incarnation: 2, Sequence: 1}, r.now)
	if got := r.silentFor(); got < 250*time.Millisecond {
		t.Errorf("suspected after %v", got)
	}
}
