package main

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// history is what the clients asked and were told in a run.
type history struct {
	mu   sync.Mutex // guards asks
	asks []load.Exchange
}

func (h *history) add(x load.Exchange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asks = append(h.asks, x)
}

// take is all so far, by the time of the answers, and begins anew.
func (h *history) take() []load.Exchange {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.asks
	h.asks = nil
	slices.SortFunc(out, func(a, b load.Exchange) int { return a.Got.Compare(b.Got) })
	return out
}

// place is where the ledger stands. Before the first run nobody knows.
type place struct {
	known    bool
	sequence uint64
	hash     chain.Hash
}

// ledgerModel is the guest's ledger as one that was never moved, restored or copied would
// be: each request makes the next entry of one chain, whose hash and place its reply has. A
// request without an answer may have been taken at any time since, or never.
func ledgerModel(from place) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return from },
		Step: func(state, input, output any) (bool, any) {
			at, line := state.(place), input.(string)
			reply, ok := output.(chain.Reply)
			next := place{known: at.known, sequence: at.sequence + 1, hash: chain.Next(at.hash, line)}
			if !ok {
				return true, next
			}
			if !at.known {
				return true, place{true, reply.Sequence, reply.Hash}
			}
			return reply.Expected == 0 && reply.Sequence == next.sequence && reply.Hash == next.hash, next
		},
	}
}

// linearizeLimit bounds the search of one run's history; it takes a few milliseconds.
const linearizeLimit = 20 * time.Second

// linearize says whether a run's history is one that a single ledger could have given,
// each request taking effect between its being sent and its answer, beginning at from. It
// returns where the ledger stood at the end.
func linearize(from place, asks []load.Exchange) (porcupine.CheckResult, place) {
	var ops []porcupine.Operation
	end := from
	clients := map[string]int{}
	for _, x := range asks {
		if _, ok := clients[x.Flow]; !ok {
			clients[x.Flow] = len(clients)
		}
		op := porcupine.Operation{ClientId: clients[x.Flow], Input: x.Line, Call: x.Sent.UnixNano(), Return: math.MaxInt64}
		if x.Err == nil {
			reply, err := chain.ParseReply(x.Answer)
			if err != nil {
				return porcupine.Illegal, from
			}
			op.Output, op.Return = reply, x.Got.UnixNano()
			if reply.Sequence > end.sequence {
				end = place{true, reply.Sequence, reply.Hash}
			}
		}
		ops = append(ops, op)
	}
	return porcupine.CheckOperationsTimeout(ledgerModel(from), ops, linearizeLimit), end
}

// outage is the longest time in which no client had an answer, between two instants.
func outage(asks []load.Exchange, from, until time.Time) (longest time.Duration) {
	last := from
	for _, x := range asks {
		if x.Err != nil || x.Got.Before(from) || x.Got.After(until) {
			continue
		}
		longest, last = max(longest, x.Got.Sub(last)), x.Got
	}
	return max(longest, until.Sub(last))
}
