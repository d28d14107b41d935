package sim

import "time"

// The times of a simulated cluster: twice those of hamgr where nothing else is said, to
// have half of the heartbeats.
const (
	suspectAfter = 500 * time.Millisecond // package lease's W
	patienceMin  = 200 * time.Millisecond
	detour       = time.Second     // half
	grace        = 2 * time.Second // a quarter: for a hamgr to come back
	refusalEvery = time.Second     // icmp_ratelimit

	raftBeat      = 60 * time.Millisecond // 3 to 6 times
	raftTimeout   = 200 * time.Millisecond
	raftLease     = 150 * time.Millisecond
	hurryPause    = 60 * time.Millisecond
	decideEvery   = 50 * time.Millisecond
	leaseEvery    = 50 * time.Millisecond
	tryTimeout    = 2 * time.Second // one attempt to propose: as it is
	registerAgain = time.Second     // as it is
	tryAgain      = 50 * time.Millisecond
	refusedPause  = time.Second

	reconcileEvery = time.Second
	dialTimeout    = 2 * time.Second
	helloTimeout   = 6 * time.Second // a fifth
	commitTimeout  = 3 * time.Second
	moveWait       = time.Second
	catchUpTimeout = 3 * time.Second
	hungTick       = 125 * time.Millisecond // a quarter
	hungTicks      = 8
	disarmTimeout  = 5 * time.Second
	// watchdog is how long a guest may stand still under a hamgr that runs: captureTimeout,
	// and the start of an agent.
	watchdog = 7 * time.Second

	retransmit = 150 * time.Millisecond
	// patience is within which all must be well once the faults have ended: LostAfter and
	// the longest timeouts above, one after the other, with room.
	patience = 45 * time.Second
)

// beatEvery is 5 times hamgr's, or 2.5 times where the patience with a silent host follows
// from it.
func (s *Schedule) beatEvery() time.Duration {
	if s.Seasoned {
		return 50 * time.Millisecond
	}
	return 100 * time.Millisecond
}
