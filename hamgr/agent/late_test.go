package agent

import (
	"context"
	"net"
	"testing"
	"time"
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
	s := &session{p: &primary{agent: &Agent{}}, conn: here, shipped: time.Now().Add(-time.Second)}
	if until, err := s.stillBackedUp(t.Context()); err != nil || time.Until(until) > closing {
		t.Errorf("it is there: %v, for %v", err, time.Until(until))
	}
	s.p.agent.cfg.Patience = 100 * time.Millisecond
	if _, err := s.stillBackedUp(t.Context()); err == nil {
		t.Error("the managers have had the time to give the guest away")
	}
	s.p.agent.cfg.Patience = time.Hour
	there.Close()
	if _, err := s.stillBackedUp(t.Context()); err == nil {
		t.Error("it has hung up")
	}
	s.shipped = time.Now()
	if until, err := s.stillBackedUp(t.Context()); err != nil || until != s.shipped.Add(lateCommit) {
		t.Errorf("in time: %v, until %v after", err, until.Sub(s.shipped))
	}
	s.shipped = time.Time{}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.stillBackedUp(over); err == nil {
		t.Error("the session is over")
	}
}
