package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hamgr/hamgr/test/guest/client"
	"github.com/hamgr/hamgr/test/guest/ledger/chain"
	"github.com/vishvananda/netns"
)

// flow is one client of the ledger.
type flow struct {
	load    *Load
	name    string
	network string
	addr    netip.AddrPort
	ns      netns.NsHandle
	random  *rand.Rand

	answered, goal atomic.Int64
	given          atomic.Bool  // up
	why            atomic.Value // it gave up, a string

	check  client.Checker
	number uint64
	result Result
}

// run asks until ctx ends, and then waits for its last answer as long as life lasts.
func (f *flow) run(ctx, life context.Context) {
	f.result.Flow, f.check.Name = f.name, f.name
	if err := f.ask(ctx, life); err != nil {
		f.result.Error, f.result.RolledBack = err.Error(), rolledBack(err)
		f.why.Store(f.result.Error)
		f.given.Store(true)
	}
	f.load.mu.Lock()
	defer f.load.mu.Unlock()
	f.load.results = append(f.load.results, f.result)
}

func (f *flow) ask(ctx, life context.Context) error {
	dialing, cancel := context.WithTimeout(life, f.load.Patience)
	defer cancel()
	conn, err := dial(dialing, f.ns, f.network, f.addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(life, func() { breakOff(conn) })()
	exchange := f.overTCP(conn)
	if f.network == "udp" {
		exchange = f.overUDP(conn)
	}
	for wait(ctx, time.Duration(f.random.ExpFloat64()*float64(f.load.Interval))) {
		f.number++
		f.result.Requests++
		x := Exchange{Flow: f.name, Line: f.check.Next("text"), Sent: time.Now()}
		answer, err := exchange(x.Line)
		if f.load.Each != nil {
			x.Answer, x.Got, x.Err = answer, time.Now(), err
			f.load.Each(x)
		}
		if err == nil {
			err = f.check.Answer(answer)
		}
		if err != nil {
			return fmt.Errorf("request %d: %w", f.number, err)
		}
		f.answered.Add(1)
	}
	return nil
}

// breakOff leaves no request under way that could be taken later.
func breakOff(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	conn.Close()
}

// overTCP sends a line and returns the answer's.
func (f *flow) overTCP(conn net.Conn) func(line string) (string, error) {
	in := bufio.NewReader(conn)
	return func(line string) (string, error) {
		conn.SetDeadline(time.Now().Add(f.load.Patience))
		if _, err := io.WriteString(conn, line+"\n"); err != nil {
			return "", err
		}
		answer, err := in.ReadString('\n')
		return strings.TrimSuffix(answer, "\n"), err
	}
}

// overUDP sends a line until it is answered. Answers to requests before it came late.
func (f *flow) overUDP(conn net.Conn) func(line string) (string, error) {
	buf := make([]byte, chain.MaxLine)
	return func(line string) (string, error) {
		for end := time.Now().Add(f.load.Patience); time.Now().Before(end); f.result.Again++ {
			io.WriteString(conn, line+"\n") // while nobody has the address, this fails
			conn.SetReadDeadline(time.Now().Add(f.load.Again))
			for {
				n, err := conn.Read(buf)
				if errors.Is(err, net.ErrClosed) {
					return "", err
				}
				if err != nil {
					time.Sleep(f.load.Again / 10) // an ICMP error comes at once
					break
				}
				answer := strings.TrimSuffix(string(buf[:n]), "\n")
				if r, err := chain.ParseReply(answer); err != nil || r.Number >= f.number {
					return answer, nil
				}
			}
		}
		return "", fmt.Errorf("no answer within %v", f.load.Patience)
	}
}
