package main

import (
	"errors"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

var zero = time.Unix(1000, 0)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

// says has a ledger answer a client's next request, sent and answered at these times.
func says(t *testing.T, l *chain.Ledger, client string, number uint64, sent, got int) load.Exchange {
	t.Helper()
	line := chain.Request{Client: client, Number: number, Payload: "text"}.Line()
	return load.Exchange{Flow: client, Line: line, Answer: l.Answer(line), Sent: at(sent), Got: at(got)}
}

// unheard is a request whose answer never came.
func unheard(x load.Exchange) load.Exchange {
	x.Answer, x.Err = "", errors.New("no answer")
	return x
}

func TestLinearize(t *testing.T) {
	a, b := chain.New(), chain.New() // b: a copy that went another way
	first := says(t, a, "x", 1, 0, 10)
	says(t, b, "x", 1, 0, 0)
	y1 := says(t, a, "y", 1, 5, 30)
	x2 := says(t, a, "x", 2, 20, 25)
	z1 := says(t, b, "z", 1, 40, 50) // the copy has not seen y1 and x2
	x3 := says(t, a, "x", 3, 60, 70)
	forged := x2
	forged.Answer = says(t, chain.New(), "x", 1, 0, 0).Answer
	never := unheard(says(t, chain.New(), "w", 1, 5, 0))
	early := x3
	early.Sent, early.Got = at(-20), at(-10) // answered before what it follows was asked
	for name, c := range map[string]struct {
		asks []load.Exchange
		want porcupine.CheckResult
	}{
		"one ledger":                {[]load.Exchange{first, x2, y1, x3}, porcupine.Ok},
		"an answer that never came": {[]load.Exchange{first, x2, unheard(y1), x3}, porcupine.Ok},
		"one that was never taken":  {[]load.Exchange{first, never, x2, y1, x3}, porcupine.Ok},
		"two ledgers":               {[]load.Exchange{first, x2, y1, z1}, porcupine.Illegal},
		"an entry is missing":       {[]load.Exchange{first, y1, x3}, porcupine.Illegal},
		"another chain":             {[]load.Exchange{first, forged, y1}, porcupine.Illegal},
		"out of order":              {[]load.Exchange{early, first, x2, y1}, porcupine.Illegal},
	} {
		if got, _ := linearize(place{}, c.asks); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestNextRunGoesOn: what a run finds has to follow from where the last one ended.
func TestNextRunGoesOn(t *testing.T) {
	l := chain.New()
	_, end := linearize(place{}, []load.Exchange{says(t, l, "a", 1, 0, 1), says(t, l, "a", 2, 2, 3)})
	next := []load.Exchange{says(t, l, "b", 1, 10, 11)}
	if r, _ := linearize(end, next); r != porcupine.Ok {
		t.Error(r)
	}
	rolledBack := chain.New()
	says(t, rolledBack, "a", 1, 0, 1)
	if r, _ := linearize(end, []load.Exchange{says(t, rolledBack, "b", 1, 10, 11)}); r != porcupine.Illegal {
		t.Error("a ledger that lost an entry between two runs:", r)
	}
}

func TestOutage(t *testing.T) {
	l := chain.New()
	asks := []load.Exchange{says(t, l, "a", 1, 0, 10), says(t, l, "a", 2, 20, 300), says(t, l, "b", 1, 30, 350)}
	if d := outage(asks, at(0), at(350)); d != 290*time.Millisecond {
		t.Error(d)
	}
	if d := outage(asks, at(0), at(1000)); d != 650*time.Millisecond {
		t.Error("nothing at the end:", d)
	}
}
