package agent

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestInputLoss: a blocked tunnel is a problem until a second has gone well; a packet now
// and then is none.
func TestInputLoss(t *testing.T) {
	now := time.Unix(1, 0)
	var l inputLoss
	for i, c := range []struct {
		after      time.Duration
		sent, lost uint64
		problem    string
	}{
		{0, 0, 0, ""},
		{time.Second, 1000, 9, ""},
		{time.Second / 2, 1100, 109, ""}, // too early to say
		{time.Second / 2, 2000, 1009, "1000 of 1000 in 1s"},
		{time.Second, 2000, 1009, ""}, // nothing sent, nothing lost
		{time.Second, 3000, 1019, "10 of 1000 in 1s"},
		{time.Second, 4000, 1010, ""}, // some were only late
	} {
		now = now.Add(c.after)
		l.look(now, c.sent, c.lost)
		if (l.problem == "") != (c.problem == "") || !strings.HasSuffix(l.problem, c.problem) {
			t.Errorf("%d: %q, want %q", i, l.problem, c.problem)
		}
	}
	l.stop(errors.New("no VXLAN"))
	l.look(now.Add(time.Minute), 5000, 1010)
	if !strings.HasSuffix(l.problem, "no VXLAN") {
		t.Errorf("%q", l.problem)
	}
}
