package agent

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
)

// TestLateCommit: one that comes in time is taken as it is; one that comes late only from
// a backup that is still there.
func TestLateCommit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	here, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	there, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	s := &session{p: &primary{agent: &Agent{}}, conn: here, there: time.Now().Add(-time.Second)}
	if until, err := s.stillBackedUp(t.Context(), false); err != nil || time.Until(until) > closing {
		t.Errorf("it is there: %v, for %v", err, time.Until(until))
	}
	s.p.agent.cfg.Patience = 100 * time.Millisecond
	s.there = time.Now().Add(-time.Second)
	if _, err := s.stillBackedUp(t.Context(), false); err == nil {
		t.Error("the managers have had the time to give the guest away")
	}
	s.p.agent.cfg.Patience = time.Hour
	buffer := &slowBuffer{times: 3}
	s.p.out.buffer = buffer
	s.there = time.Now().Add(-time.Second)
	if err := s.release(t.Context()); err != nil || buffer.times != 0 {
		t.Errorf("%v; to be released %d times more", err, buffer.times)
	}
	*buffer = slowBuffer{times: 2, meanwhile: func() { there.Close() }}
	s.there = time.Now()
	if err := s.release(t.Context()); err == nil || buffer.times != 1 {
		t.Errorf("it hung up in the middle of a release: %v; to be released %d times more", err, buffer.times)
	}
	s.there = time.Now().Add(-time.Second)
	if _, err := s.stillBackedUp(t.Context(), false); err == nil {
		t.Error("it has hung up")
	}
	s.there = time.Now()
	if _, err := s.stillBackedUp(t.Context(), true); err == nil {
		t.Error("it has hung up just now")
	}
	s.there = time.Now()
	if until, err := s.stillBackedUp(t.Context(), false); err != nil || until != s.there.Add(lateCommit) {
		t.Errorf("in time: %v, until %v after", err, until.Sub(s.there))
	}
	s.there = time.Time{}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.stillBackedUp(over, false); err == nil {
		t.Error("the session is over")
	}
}

// slowBuffer is too late with a release some times.
type slowBuffer struct {
	bufferqdisc.Buffer
	times     int
	meanwhile func()
}

func (b *slowBuffer) Release(bufferqdisc.Epoch, time.Time) error {
	if b.times--; b.times == 0 {
		return nil
	}
	if b.meanwhile != nil {
		b.meanwhile()
	}
	return bufferqdisc.ErrLate
}
