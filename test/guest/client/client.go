// Package client asks a ledger over one TCP connection and checks every answer: a
// sequence number or hash that does not follow from what was seen before is a rollback.
package client

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// Options of a run.
type Options struct {
	Addr     string
	Interval time.Duration // mean time between two requests; each waits for its answer
	Seed     uint64        // of the random part of the interval
	Patience time.Duration // how long one answer may take before the run gives up
	Each     func(Sample)  // called for every answered request
}

// Sample is one answered request.
type Sample struct {
	Sent    time.Time     `json:"sent"`
	Latency time.Duration `json:"latency_ns"`
}

// Result of a run. The client must be the ledger's only one.
type Result struct {
	Requests   int    `json:"requests"`
	TCPReset   bool   `json:"tcp_reset"`   // the connection broke
	Lost       int    `json:"lost"`        // requests that got no answer
	RolledBack int    `json:"rolled_back"` // answers that contradict an earlier one
	Error      string `json:"error,omitempty"`
}

// Run asks until ctx ends; a request under way is still waited for.
func Run(ctx context.Context, o Options) Result {
	var r Result
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", o.Addr)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer conn.Close()
	c := &checker{in: bufio.NewReader(conn), out: conn}
	random := rand.New(rand.NewPCG(o.Seed, 0))
	for ctx.Err() == nil {
		sent := time.Now()
		conn.SetDeadline(sent.Add(o.Patience))
		r.Requests++
		if err := c.ask(r.Requests); err != nil {
			r.fail(err)
			return r
		}
		if o.Each != nil {
			o.Each(Sample{sent, time.Since(sent)})
		}
		wait(ctx, time.Duration(random.Float64()*2*float64(o.Interval)))
	}
	return r
}

// errRollback: the ledger's answer contradicts an earlier one.
var errRollback = errors.New("the ledger was rolled back")

func (r *Result) fail(err error) {
	r.Error = err.Error()
	var timeout net.Error
	switch {
	case errors.Is(err, errRollback):
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

// checker follows the chain.
type checker struct {
	in       *bufio.Reader
	out      io.Writer
	sequence uint64
	hash     [sha256.Size]byte
}

func (c *checker) ask(number int) error {
	line := fmt.Sprintf("client %d text", number)
	if _, err := io.WriteString(c.out, line+"\n"); err != nil {
		return err
	}
	answer, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	return c.check(number, line, strings.TrimSpace(answer))
}

func (c *checker) check(number int, line, answer string) error {
	var echo int
	var sequence uint64
	var text string
	if _, err := fmt.Sscanf(answer, "%d %d %s", &echo, &sequence, &text); err != nil {
		return fmt.Errorf("%w: answer %q", errRollback, answer)
	}
	c.hash = sha256.Sum256(append(c.hash[:], line...))
	c.sequence++
	if echo != number || sequence != c.sequence || text != hex.EncodeToString(c.hash[:]) {
		return fmt.Errorf("%w: request %d is entry %d there, %d here, or the chain differs", errRollback, number, sequence, c.sequence)
	}
	return nil
}
