package client

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// udpLedger answers over UDP until the test ends: the n-th datagram as often as answers
// says, by the ledger that it names.
func udpLedger(t *testing.T, answers func(n int) (*chain.Ledger, int)) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		buf := make([]byte, chain.MaxLine)
		for i := 0; ; i++ {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			l, times := answers(i)
			for range times {
				conn.WriteTo([]byte(l.Answer(string(buf[:n]))+"\n"), from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func runUDP(t *testing.T, addr string, resend time.Duration, answers int) Result {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n := 0
	return RunUDP(ctx, UDPOptions{Addr: addr, Clients: 5, Resend: resend, Patience: 10 * time.Second, Each: func(Sample) {
		if n++; n == answers {
			cancel()
		}
	}})
}

func TestUDP(t *testing.T) {
	l := chain.New()
	r := runUDP(t, udpLedger(t, func(n int) (*chain.Ledger, int) {
		if n%3 == 0 {
			return l, 2
		}
		return l, 1
	}), 5*time.Second, 200)
	if r.Error != "" || r.Lost != 0 || r.Requests < 200 || r.Requests > 205 {
		t.Errorf("%+v", r)
	}
}

// TestUDPLoss: each request that is not answered the first time is lost, once.
func TestUDPLoss(t *testing.T) {
	l, lost := chain.New(), map[int]bool{7: true, 20: true, 21: true, 22: true}
	r := runUDP(t, udpLedger(t, func(n int) (*chain.Ledger, int) {
		if lost[n] {
			return l, 0
		}
		return l, 1
	}), 2*time.Second, 100)
	if r.Error != "" || r.Lost < 2 || r.Lost > len(lost) || len(r.LostAt) != r.Lost {
		t.Errorf("%+v", r)
	}
}

// TestUDPRollback: a ledger that has forgotten is found out, by whichever client.
func TestUDPRollback(t *testing.T) {
	before, after := chain.New(), chain.New()
	r := runUDP(t, udpLedger(t, func(n int) (*chain.Ledger, int) {
		if n < 50 {
			return before, 1
		}
		return after, 1
	}), 5*time.Second, 1000)
	if r.RolledBack == 0 || !strings.Contains(r.Error, "rolled back") {
		t.Errorf("%+v", r)
	}
}
