package agent

import (
	"fmt"
	"time"
)

const (
	// lossWindow is the stretch of time that a judgement is about.
	lossWindow = time.Second
	// lossPercent of the copies is more than a network loses when nothing is wrong.
	lossPercent = 1
	// lossCalm is how many windows must go well before a problem is over: each change is an
	// event for people.
	lossCalm = 10
)

// inputLoss judges from counters whether copies of the guest's input come to be kept at
// the backup.
type inputLoss struct {
	problem string // why a failover would lose packets now; empty: it would not

	since      time.Time // the window's beginning
	sent, lost uint64    // until then
	well       int       // windows without a problem, since the last one
	dead       bool      // nothing is copied any more
}

// stop says that nothing is copied, for the rest of the session.
func (l *inputLoss) stop(err error) {
	l.problem, l.dead = "the guest's input is not copied: "+err.Error(), true
}

// look takes how many packets were to be copied so far, and how many of the copies were
// not made, have not arrived, or were dropped for want of room.
func (l *inputLoss) look(now time.Time, sent, lost uint64) {
	if l.dead || now.Sub(l.since) < lossWindow {
		return
	}
	ds, dl := sent-l.sent, lost-min(lost, l.lost)
	l.since, l.sent, l.lost = now, sent, lost
	if l.well++; l.well >= lossCalm {
		l.problem = ""
	}
	if dl > 0 && dl*100 >= lossPercent*ds {
		l.well = 0
		l.problem = fmt.Sprintf("copies of the guest's input do not come to be kept at the backup: %d of %d in %s", dl, ds, lossWindow)
	}
}
