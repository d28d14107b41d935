package agent

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestInputLoss: a blocked tunnel is a problem until ten seconds have gone well; a packet
// now and then is none.
func TestInputLoss(t *testing.T) {
	now := time.Unix(1, 0)
	var l inputLoss
	see := func(after time.Duration, sent, lost uint64, problem string) {
		t.Helper()
		now = now.Add(after)
		l.look(now, sent, lost)
		if (l.problem == "") != (problem == "") || !strings.HasSuffix(l.problem, problem) {
			t.Errorf("%q, want %q", l.problem, problem)
		}
	}
	see(0, 0, 0, "")
	see(time.Second, 1000, 9, "")
	see(time.Second/2, 1100, 109, "") // too early to say
	see(time.Second/2, 2000, 1009, "1000 of 1000 in 1s")
	for range lossCalm - 1 {
		see(time.Second, 2000, 1009, "1000 of 1000 in 1s")
	}
	see(time.Second, 2000, 1009, "") // nothing sent, nothing lost
	see(time.Second, 3000, 1019, "10 of 1000 in 1s")
	see(time.Second, 4000, 1010, "10 of 1000 in 1s") // some were only late
	l.stop(errors.New("no VXLAN"))
	see(time.Minute, 5000, 1010, "no VXLAN")
}
