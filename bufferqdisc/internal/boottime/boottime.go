// Package boottime makes deadlines that BPF programs keep: on CLOCK_BOOTTIME, which goes on
// while the host is suspended (clock_gettime(2)), read there by bpf_ktime_get_boot_ns
// (bpf-helpers(7), Linux 5.8).
package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Of is a time on that clock, nanoseconds, and never later; 0 for one before the host was
// up. A wall clock that is set moves a time without a monotonic reading.
func Of(t time.Time) uint64 { return of(t, clock) }

// of reads the clock first: a process that is stopped between the two readings gets less
// time, not more.
func of(t time.Time, clock func() int64) uint64 {
	now := clock()
	return uint64(max(0, now+int64(time.Until(t))))
}

// Now is 0 where there is no such clock: then no deadline is in the future.
func Now() uint64 { return uint64(clock()) }

func clock() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return t.Nano()
}
