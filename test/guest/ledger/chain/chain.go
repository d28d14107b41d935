// Package chain is the ledger without its network: a hash chain of requests, and the
// lines that requests and replies are written as. The protocol is our own.
//
// A client sends lines and gets one line back for each, over TCP in order:
//
//	request:  <client> <number> <payload>
//	reply:    <client> <number> <sequence> <hash>        an entry was made
//	          <client> <number> refused <expected>       the number is not the client's next
//	          ! <text>                                   this was no request
//
// where hash = SHA-256(hash before, request line) in hex, and the chain starts from 32
// zero bytes. The ledger counts each client's requests: number must be one more than
// the last. The last number again is a retransmission (UDP) and gets the same reply
// again without a new entry. So a ledger that went back in time cannot take a client's
// next request without the client noticing, even when others have used it in between.
package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
)

// maxClients bounds what the ledger remembers.
const maxClients = 4096

// Hash is the state of the chain after an entry.
type Hash [sha256.Size]byte

// String is the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Next is the chain's hash after an entry, given the hash before and the request's line.
func Next(before Hash, line string) Hash {
	return sha256.Sum256(append(before[:], line...))
}

// Ledger is the chain and what it knows of its clients. Make one with New.
type Ledger struct {
	instance uint64 // random, to tell a restarted ledger from one that went back

	mu       sync.Mutex // guards what follows
	sequence uint64
	hash     Hash
	clients  map[string]Reply // the last entry of each
}

// State is the ledger at an instant.
type State struct {
	Instance string `json:"instance"` // changes when the ledger starts anew
	Sequence uint64 `json:"sequence"` // entries so far
	Hash     Hash   `json:"hash"`
	Clients  int    `json:"clients"`
}

// New makes an empty ledger.
func New() *Ledger {
	return &Ledger{instance: rand.Uint64(), clients: make(map[string]Reply)}
}

// Append makes an entry, repeats the reply to the client's last, or refuses a number
// that is not the client's next (no error: the reply says so). Number 0 stands for the
// next. The error wraps ErrBadRequest.
func (l *Ledger) Append(r Request) (Reply, error) {
	if err := r.check(); err != nil {
		return Reply{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last, known := l.clients[r.Client]
	if !known && len(l.clients) >= maxClients {
		return Reply{}, fmt.Errorf("%w: the ledger has its %d clients; use a name it knows", ErrBadRequest, maxClients)
	}
	if r.Number == 0 {
		r.Number = last.Number + 1
	}
	if known && r.Number == last.Number {
		return last, nil
	}
	if r.Number != last.Number+1 {
		return Reply{Client: r.Client, Number: r.Number, Expected: last.Number + 1}, nil
	}
	l.sequence++
	l.hash = Next(l.hash, r.Line())
	reply := Reply{Client: r.Client, Number: r.Number, Sequence: l.sequence, Hash: l.hash}
	l.clients[r.Client] = reply
	return reply, nil
}

// Answer is Append for a line as it came, newline removed: always a line to send back.
func (l *Ledger) Answer(line string) string {
	request, err := ParseRequest(line)
	if err != nil {
		return "! " + err.Error()
	}
	reply, err := l.Append(request)
	if err != nil {
		return "! " + err.Error()
	}
	return reply.Line()
}

// State tells where the chain is.
func (l *Ledger) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return State{Instance: fmt.Sprintf("%016x", l.instance), Sequence: l.sequence, Hash: l.hash, Clients: len(l.clients)}
}
