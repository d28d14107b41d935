package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

// UDPOptions of a run over UDP.
type UDPOptions struct {
	Addr     string
	Name     string        // that the clients' names begin with; "udp" if empty
	Clients  int           // each has one request at a time under way
	Interval time.Duration // mean time between an answer and the next request
	Seed     uint64        // of the random part of the interval
	Resend   time.Duration // how long to wait before a request is lost and sent again; longer than any pause
	Patience time.Duration // how long one answer may take before the run gives up
	Each     func(Sample)  // called for every answered request, one at a time
}

// RunUDP has several clients ask over one socket until ctx ends; requests under way are
// still waited for. A request that had to be sent again is lost, whenever it is answered.
func RunUDP(ctx context.Context, o UDPOptions) Result {
	conn, err := net.Dial("udp", o.Addr)
	if err != nil {
		return Result{Error: err.Error()}
	}
	if o.Name == "" {
		o.Name = "udp"
	}
	u := &udp{o: o, conn: conn, waiting: map[string]chan string{}}
	var clients []*udpClient
	for i := range o.Clients {
		c := &udpClient{udp: u, check: Checker{Name: fmt.Sprintf("%s.%d", o.Name, i)}, answers: make(chan string, 64),
			random: rand.New(rand.NewPCG(o.Seed, uint64(i)))}
		u.waiting[c.check.Name] = c.answers
		clients = append(clients, c)
	}
	var reader, askers sync.WaitGroup
	reader.Go(u.read)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, c := range clients {
		askers.Go(func() {
			if err := c.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	askers.Wait()
	conn.Close()
	reader.Wait()
	return u.result
}

// udp is what the clients of one socket share.
type udp struct {
	o       UDPOptions
	conn    net.Conn
	waiting map[string]chan string // answers by client, not changed any more

	mu     sync.Mutex // guards result, and calls of Each
	result Result
}

// read hands each answer to its client until the socket is closed. A client that does not
// fetch its answers loses them, as a full socket would.
func (u *udp) read() {
	buf := make([]byte, chain.MaxLine+2)
	for {
		n, err := u.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error: nobody there, for a moment
		}
		line := strings.TrimSuffix(string(buf[:n]), "\n")
		name, _, _ := strings.Cut(line, " ")
		select {
		case u.waiting[name] <- line:
		default:
		}
	}
}

func (u *udp) count(f func(*Result)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(&u.result)
}

type udpClient struct {
	udp     *udp
	check   Checker
	answers chan string
	random  *rand.Rand
}

func (c *udpClient) run(ctx context.Context) error {
	u := c.udp
	for ctx.Err() == nil {
		sent := time.Now()
		u.count(func(r *Result) { r.Requests++ })
		if err := c.ask(sent); err != nil {
			u.count(func(r *Result) {
				r.Error = fmt.Sprintf("%s: %v", c.check.Name, err)
				if errors.Is(err, ErrRolledBack) {
					r.RolledBack++
				}
			})
			return err
		}
		u.count(func(*Result) {
			if u.o.Each != nil {
				u.o.Each(Sample{sent, time.Since(sent), c.check.Sequence})
			}
		})
		wait(ctx, time.Duration(c.random.Float64()*2*float64(u.o.Interval)))
	}
	return nil
}

// ask sends the next request until it is answered.
func (c *udpClient) ask(sent time.Time) error {
	line := c.check.Next("text")
	give := time.NewTimer(c.udp.o.Patience)
	defer give.Stop()
	for try := 1; ; try++ {
		if try == 2 {
			c.udp.count(func(r *Result) { r.lose(sent) })
		}
		c.udp.conn.Write([]byte(line)) // an error is an older one's ICMP answer
		resend := time.After(c.udp.o.Resend)
		for waiting := true; waiting; {
			select {
			case answer := <-c.answers:
				if c.old(answer) {
					continue
				}
				return c.check.Answer(answer)
			case <-resend:
				waiting = false
			case <-give.C:
				return fmt.Errorf("no answer within %s", c.udp.o.Patience)
			}
		}
	}
}

// old says that an answer is one to an earlier request: the network, or a failover,
// delivered that twice.
func (c *udpClient) old(answer string) bool {
	r, err := chain.ParseReply(answer)
	return err == nil && r.Number < c.check.number
}

// maxLostAt bounds what is told of a run that lost everything.
const maxLostAt = 500

func (r *Result) lose(sent time.Time) {
	if r.Lost++; r.Lost <= maxLostAt {
		r.LostAt = append(r.LostAt, sent)
	}
}
