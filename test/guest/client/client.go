// Package client asks a ledger over one TCP connection and checks every answer: one
// that does not follow from what was seen before is a rollback.
package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// Options of a run.
type Options struct {
	Addr     string
	Name     string        // of this client, the ledger's only one of that name; "client" if empty
	Interval time.Duration // mean time between two requests; each waits for its answer
	Seed     uint64        // of where the waits begin
	Patience time.Duration // how long one answer may take before the run gives up
	Each     func(Sample)  // called for every answered request
}

// Sample is one answered request.
type Sample struct {
	Sent     time.Time     `json:"sent"`
	Latency  time.Duration `json:"latency_ns"`
	Sequence uint64        `json:"sequence"` // the entry it made
}

// Result of a run.
type Result struct {
	Requests   int    `json:"requests"`
	TCPReset   bool   `json:"tcp_reset"`   // the connection broke
	Lost       int    `json:"lost"`        // requests that got no answer
	RolledBack int    `json:"rolled_back"` // answers that contradict an earlier one
	Error      string `json:"error,omitempty"`

	LostAt []time.Time `json:"lost_at,omitempty"` // over UDP: when the first lost ones were first sent
}

const defaultName = "client"

// Run asks until ctx ends; a request under way is still waited for.
func Run(ctx context.Context, o Options) Result {
	var r Result
	if o.Name == "" {
		o.Name = defaultName
	}
	conn, err := dial(ctx, o.Addr)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	check := Checker{Name: o.Name}
	at := rand.New(rand.NewPCG(o.Seed, 0)).Float64()
	for ctx.Err() == nil {
		sent := time.Now()
		conn.SetDeadline(sent.Add(o.Patience))
		r.Requests++
		if err := ask(conn, in, &check); err != nil {
			r.fail(err)
			return r
		}
		if o.Each != nil {
			o.Each(Sample{sent, time.Since(sent), check.Sequence})
		}
		at = next(at)
		wait(ctx, time.Duration(at*2*float64(o.Interval)))
	}
	return r
}

// next goes through the numbers from 0 to 1 evenly and in no order, by steps of the golden
// ratio: a few waits tell as much of what depends on their lengths as many random ones.
func next(at float64) float64 {
	_, at = math.Modf(at + math.Phi)
	return at
}

// dial waits for a ledger that is still starting: its kernel answers before it does.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		wait(ctx, 50*time.Millisecond)
	}
}

func ask(out io.Writer, in *bufio.Reader, check *Checker) error {
	if _, err := io.WriteString(out, check.Next("text")+"\n"); err != nil {
		return err
	}
	answer, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	return check.Answer(strings.TrimSuffix(answer, "\n"))
}

func (r *Result) fail(err error) {
	r.Error = err.Error()
	var timeout net.Error
	switch {
	case errors.Is(err, ErrRolledBack):
		r.RolledBack++
	case errors.As(err, &timeout) && timeout.Timeout():
		r.Lost++
	default:
		r.TCPReset = true
		r.Lost++
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// ErrRolledBack: an answer contradicts an earlier one.
var ErrRolledBack = errors.New("the ledger was rolled back")

// Checker makes one client's requests, one at a time, and checks the answers. Others may
// use the ledger in between.
type Checker struct {
	Name     string
	Sequence uint64 // of the last entry it made

	number uint64
	line   string
	hash   chain.Hash
}

// Next is the line of the next request, without its newline.
func (c *Checker) Next(payload string) string {
	c.number++
	c.line = chain.Request{Client: c.Name, Number: c.number, Payload: payload}.Line()
	return c.line
}

// Answer checks the reply to the last request. Errors: ErrRolledBack; one that wraps
// chain.ErrBadRequest.
func (c *Checker) Answer(line string) error {
	r, err := chain.ParseReply(line)
	if err != nil {
		return err
	}
	switch {
	case r.Client != c.Name || r.Number != c.number:
		return fmt.Errorf("%w: the answer to request %d of %s came for request %d of %s", ErrRolledBack, r.Number, r.Client, c.number, c.Name)
	case r.Expected != 0:
		return fmt.Errorf("%w: it expects request %d of %s, which is at %d", ErrRolledBack, r.Expected, c.Name, c.number)
	case r.Sequence <= c.Sequence:
		return fmt.Errorf("%w: request %d made entry %d, and an earlier one entry %d", ErrRolledBack, c.number, r.Sequence, c.Sequence)
	case r.Sequence == c.Sequence+1 && r.Hash != chain.Next(c.hash, c.line):
		return fmt.Errorf("%w: entry %d does not follow from the one before", ErrRolledBack, r.Sequence)
	}
	c.Sequence, c.hash = r.Sequence, r.Hash
	return nil
}
