package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
	"github.com/hamgr/hamgr/test/guest/ledger/server"
)

func TestRunAgainstALedger(t *testing.T) {
	s, err := server.Start(server.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	answers := 0
	r := Run(ctx, Options{Addr: s.Addr(), Patience: 10 * time.Second, Each: func(Sample) {
		if answers++; answers == 50 {
			cancel()
		}
	}})
	if r.Error != "" || r.Requests != 50 || answers != 50 {
		t.Fatalf("%+v after %d answers", r, answers)
	}
}

// ask has one request of each checker answered by a ledger.
func answered(l *chain.Ledger, c *Checker) error { return c.Answer(l.Answer(c.Next("text"))) }

// TestRollbacksAreSeen: a ledger that lost its last entry, with or without somebody else's
// in their place, one that lost all, and one that forges an entry.
func TestRollbacksAreSeen(t *testing.T) {
	history := func(n int) (*chain.Ledger, *Checker) {
		l, c := chain.New(), &Checker{Name: "a"}
		for range n {
			if err := answered(l, c); err != nil {
				t.Fatal(err)
			}
		}
		return l, c
	}
	now, c := history(10)
	if err := answered(now, &Checker{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	if err := answered(now, c); err != nil {
		t.Fatalf("another client's entry taken for a rollback: %v", err)
	}
	for name, old := range map[string]func() *chain.Ledger{
		"one entry less": func() *chain.Ledger { l, _ := history(9); return l },
		"another's instead": func() *chain.Ledger {
			l, _ := history(9)
			if err := answered(l, &Checker{Name: "b"}); err != nil {
				t.Fatal(err)
			}
			return l
		},
		"empty": chain.New,
	} {
		_, c := history(10)
		if err := answered(old(), c); !errors.Is(err, ErrRolledBack) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, c = history(10)
	forged := chain.Reply{Client: "a", Number: 11, Sequence: 11}.Line()
	c.Next("text")
	if err := c.Answer(forged); !errors.Is(err, ErrRolledBack) {
		t.Errorf("forged: %v", err)
	}
}

// TestWaitsAreSpread: a hundred of them fall evenly into tenths.
func TestWaitsAreSpread(t *testing.T) {
	var tenths [10]int
	at := 0.123
	for range 100 {
		at = next(at)
		tenths[int(at*10)]++
	}
	for i, n := range tenths {
		if n < 8 || n > 12 {
			t.Errorf("%d waits of 100 in tenth %d", n, i)
		}
	}
}
