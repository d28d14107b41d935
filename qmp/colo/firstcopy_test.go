package colo

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestEndless(t *testing.T) {
	const ms, sec = time.Millisecond, time.Second
	type seen struct {
		at time.Duration // since the copy began
		n  int           // the pass QEMU is in
	}
	for name, tc := range map[string]struct {
		looks []seen
		want  bool // after the last one; all before say no
	}{
		"first pass":              {[]seen{{10 * ms, 1}, {5 * sec, 1}, {time.Hour, 1}}, false},
		"setting up":              {[]seen{{10 * ms, 0}, {5 * sec, 0}}, false},
		"converges":               {[]seen{{500 * ms, 1}, {600 * ms, 2}, {700 * ms, 3}, {750 * ms, 4}, {775 * ms, 5}}, false},
		"short passes":            {[]seen{{500 * ms, 1}, {600 * ms, 2}, {610 * ms, 4}}, true},
		"short at once":           {[]seen{{10 * ms, 40}}, true},
		"not so short":            {[]seen{{500 * ms, 1}, {600 * ms, 2}, {650 * ms, 4}}, false},
		"goes on":                 {[]seen{{100 * ms, 2}, {500 * ms, 3}, {990 * ms, 4}, {1010 * ms, 4}}, true},
		"goes on, large guest":    {[]seen{{9 * sec, 1}, {10 * sec, 2}, {20 * sec, 12}, {29900 * ms, 22}, {30100 * ms, 22}}, true},
		"goes on, largest guests": {[]seen{{300 * sec, 2}, {359900 * ms, 100}, {360100 * ms, 100}}, true},
		"in long passes":          {[]seen{{1 * sec, 2}, {3 * sec, 3}, {5 * sec, 4}, {time.Hour, 5}}, false},
		"in a long pass":          {[]seen{{500 * ms, 2}, {900 * ms, 3}, {5 * sec, 3}}, false},
		"over":                    {[]seen{{100 * ms, 2}, {500 * ms, 3}, {990 * ms, 4}, {1010 * ms, 0}}, false},
		"over, soon":              {[]seen{{10 * ms, 1}, {20 * ms, 0}}, false},
	} {
		began := time.Now()
		p := passes{began: began, turned: began}
		for i, l := range tc.looks {
			now := began.Add(l.at)
			if got, want := p.endless(look{n: l.n, sent: 1}, now, now), tc.want && i == len(tc.looks)-1; got != want {
				t.Errorf("%s: %t after %v", name, got, l.at)
			}
		}
	}
}

// A pass that is short by now may have much to send, and a look may take long.
func TestNotEndless(t *testing.T) {
	began := time.Now()
	at := func(d time.Duration) time.Time { return began.Add(d) }
	p := passes{began: began, turned: began}
	p.endless(look{n: 2, sent: 1}, at(time.Second), at(time.Second))
	for remaining, want := range map[uint64]bool{4 << 30: false, 999 << 20: true} {
		p := p
		if p.endless(look{n: 12, sent: 4000 << 20, remaining: remaining}, at(4*time.Second), at(4*time.Second)) != want {
			t.Errorf("at 1000 MiB/s, with %d MiB to send: %t", remaining>>20, !want)
		}
	}
	if p.endless(look{n: 4}, at(3*time.Second), at(3590*time.Millisecond)); p.endless(look{n: 5}, at(3600*time.Millisecond), at(3600*time.Millisecond)) {
		t.Error("a pass of 600 ms was taken for a short one, as the look before took so long")
	}
}

// TestBusyGuest: a guest that always writes is stopped for the last pass, and is in a
// session all the same.
func TestBusyGuest(t *testing.T) {
	q, c := newFake(t, tiny(11))
	q.busy = true
	s, err := Arm(within(t), c, Options{}, drain{})
	if err == nil {
		if left, err := stoppedForLastPass(within(t), c); left || err != nil {
			t.Errorf("a user who pauses the guest now would not be believed: %v", err)
		}
		err = s.Disarm(within(t))
	}
	if err != nil || !slices.Contains(q.commands, "stop") {
		t.Errorf("%v, after %v", err, slices.Compact(q.commands))
	}
	q.wantOut(t)
}

// One that does not write is let alone, how long its only pass may take, and so is one that
// a user pauses.
func TestQuietGuest(t *testing.T) {
	for _, run := range []string{"running", "paused"} {
		t.Run(run, func(t *testing.T) { quietGuest(t, run) })
	}
}

func quietGuest(t *testing.T, run string) {
	q, c := newFake(t, tiny(11))
	looks := make(chan struct{}, 100)
	q.asked = func(command string) {
		if command == "query-status" {
			looks <- struct{}{}
		}
	}
	q.change = func(turn int, b []byte) []byte {
		if turn == 0 {
			q.set("active", run)
			q.pass(map[string]int{"running": 1, "paused": 100}[run])
			for range 4 { // the first is not at the copy
				<-looks
			}
		}
		return b
	}
	s, err := Arm(within(t), c, Options{}, drain{})
	if err == nil {
		err = s.Disarm(within(t))
	}
	if err != nil || slices.Contains(q.commands, "stop") {
		t.Errorf("%v, after %v", err, q.commands)
	}
}

// A session whose guest could not be stopped, or which ends then, leaves it running.
func TestLastPassFails(t *testing.T) {
	refused := errors.New("no way")
	for _, tc := range []struct {
		spoil func(*fakeQEMU)
		want  error
		text  string
	}{
		{spoil: func(q *fakeQEMU) { q.refuse["stop"] = refused }, text: "refused stop: no way"},
		{spoil: func(q *fakeQEMU) { q.change = func(int, []byte) []byte { return []byte{secEnd} } }, want: ErrTruncated},
	} {
		q, c := newFake(t, tiny(11))
		q.busy = true
		tc.spoil(q)
		_, err := Arm(within(t), c, Options{}, drain{})
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Error(err)
		}
		q.wantOut(t)
	}
}

// A guest that was stopped does not stand still for as long as the network likes.
func TestLastPassIsBounded(t *testing.T) {
	q, c := newFake(t, tiny(11))
	q.busy, q.slow = true, true
	_, err := Arm(within(t), c, Options{lastPassMost: 50 * time.Millisecond}, drain{})
	if err == nil || !strings.Contains(err.Error(), "stood still for 50ms") {
		t.Error(err)
	}
	q.wantOut(t)
}

// TestStopIsWaitedFor: QEMU ends the copy just when it is told to stop the guest. Arm does
// not return before it has: the guest would be stopped in its session.
func TestStopIsWaitedFor(t *testing.T) {
	q, c := newFake(t, tiny(11))
	q.busy = true
	var answered atomic.Bool
	q.asked = func(command string) {
		if command != "stop" {
			return
		}
		q.endCopy()
		<-time.After(50 * time.Millisecond)
		answered.Store(true)
	}
	s, err := Arm(within(t), c, Options{}, drain{})
	if err != nil {
		t.Fatal(err)
	}
	if !answered.Load() {
		t.Error("the answer was not waited for")
	}
	if err := s.Disarm(within(t)); err != nil {
		t.Fatal(err)
	}
	q.wantOut(t)
}

// TestRecoverFromLastPass: what Recover makes of a paused guest depends on who paused it.
func TestRecoverFromLastPass(t *testing.T) {
	for _, tc := range []struct {
		colo      bool
		bandwidth uint64
		want      string
	}{{true, lastPassBandwidth, "running"}, {true, 10 << 30, "paused"}, {false, lastPassBandwidth, "paused"}} {
		q, c := newFake(t, tiny(11))
		q.caps["x-colo"], q.migration, q.run, q.bandwidth = tc.colo, "failed", "paused", tc.bandwidth
		if err := Recover(within(t), c); err != nil || q.run != tc.want || q.caps["x-colo"] {
			t.Errorf("%+v: %q, %v", tc, q.run, err)
		}
	}
}
