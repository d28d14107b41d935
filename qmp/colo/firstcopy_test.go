package colo

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// look is what a look at a first copy sees.
type look struct {
	at time.Duration // since the copy began
	n  int           // the pass QEMU is in
}

func TestEndless(t *testing.T) {
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		looks []look
		want  bool // after the last one; all before say no
	}{
		"first pass of long":       {[]look{{10 * ms, 1}, {5 * time.Second, 1}, {time.Hour, 1}}, false},
		"converges":                {[]look{{500 * ms, 1}, {600 * ms, 2}, {700 * ms, 2}, {800 * ms, 3}, {850 * ms, 4}}, false},
		"short passes":             {[]look{{500 * ms, 1}, {600 * ms, 2}, {610 * ms, 4}}, true},
		"short from the beginning": {[]look{{10 * ms, 40}, {20 * ms, 80}}, true},
		"many in a long time":      {[]look{{500 * ms, 1}, {600 * ms, 2}, {650 * ms, 4}}, false},
		"goes on, small guest":     {[]look{{100 * ms, 2}, {990 * ms, 3}, {1010 * ms, 3}}, true},
		"goes on, large guest":     {[]look{{9 * time.Second, 1}, {10 * time.Second, 2}, {20 * time.Second, 3}, {29 * time.Second, 4}, {31 * time.Second, 4}}, true},
		"over":                     {[]look{{500 * ms, 1}, {600 * ms, 2}, {610 * ms, 0}}, false},
	} {
		began := time.Now()
		p := passes{began: began, last: began}
		for i, l := range tc.looks {
			if got, want := p.endless(l.n, began.Add(l.at)), tc.want && i == len(tc.looks)-1; got != want {
				t.Errorf("%s: %t after %v", name, got, l.at)
			}
		}
	}
}

// TestBusyGuest: a guest that always writes is stopped for the last pass, and is in a
// session all the same.
func TestBusyGuest(t *testing.T) {
	for _, kvm := range []bool{false, true} {
		q, c := newFake(t, tiny(11))
		q.busy, q.kvm = true, kvm
		s, err := Arm(within(t), c, Options{}, drain{})
		if err == nil {
			err = s.Disarm(within(t))
		}
		if err != nil || !slices.Contains(q.commands, "stop") {
			t.Errorf("KVM %t: %v, after %v", kvm, err, slices.Compact(q.commands))
		}
		q.wantOut(t)
	}
}

// One that does not is let alone.
func TestQuietGuest(t *testing.T) {
	q, c := newFake(t, tiny(11))
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
