package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// TestSettled: a host answers for a guest once it knows that its protection is over and
// nothing of its part in that is left; not before, and not never.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newJob(&fakeCluster{}, core.Protection{Domain: "g1", Primary: "h1"})
		a := p.agent
		a.told.Index, a.primaries["g1"] = 7, p
		began := time.Now()
		if err := a.settled(t.Context(), "g1", 7); err == nil || time.Since(began) != settledWait {
			t.Errorf("with a job under way: %v after %v", err, time.Since(began))
		}
		time.AfterFunc(time.Second, func() { close(p.done) })
		began = time.Now()
		if err := a.settled(t.Context(), "g1", 7); err != nil || time.Since(began) > 2*time.Second {
			t.Errorf("its job is over, and: %v after %v", err, time.Since(began))
		}
		if err := a.settled(t.Context(), "g1", 8); err == nil {
			t.Error("it has not heard of the end")
		}
		if err := a.settled(t.Context(), "g2", 0); err != nil {
			t.Errorf("of what nobody has decided anything about: %v", err)
		}
	})
}
