package sim

import "time"

// The times of a simulated cluster: twice those of hamgr where nothing else is said, to
// have half of the heartbeats.
const (
	beatEvery    = 100 * time.Millisecond // 5 times hamgr's
	suspectAfter = 500 * time.Millisecond // package lease's W
	grace        = 2 * time.Second        // a quarter: for a hamgr to come back
	refusalEvery = time.Second            // icmp_ratelimit

	raftBeat     = 100 * time.Millisecond
	raftTimeout  = 400 * time.Millisecond
	raftLease    = 300 * time.Millisecond
	decideEvery  = 50 * time.Millisecond
	leaseEvery   = 50 * time.Millisecond
	tryTimeout   = 2 * time.Second // one attempt to propose: as it is
	tryAgain     = 50 * time.Millisecond
	refusedPause = time.Second

	reconcileEvery = time.Second
	dialTimeout    = 2 * time.Second
	helloTimeout   = 6 * time.Second // a fifth
	commitTimeout  = 3 * time.Second
	catchUpTimeout = 3 * time.Second
	// watchdog is how long a guest may stand still under a hamgr that runs: captureTimeout,
	// and the start of an agent.
	watchdog = 7 * time.Second

	retransmit = 150 * time.Millisecond
	// patience is within which all must be well once the faults have ended: LostAfter and
	// the longest timeouts above, one after the other, with room.
	patience = 45 * time.Second
)
