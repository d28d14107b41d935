// Package load asks a ledger in every way it can be asked, from a client host of a lab:
// TCP and UDP over all of its addresses, and makes the guest speak ARP, neighbour
// discovery and ICMP beside that.
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hamgr/hamgr/test/guest/client"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Options of a load.
type Options struct {
	Pid       int           // whose network namespace it comes from
	Device    string        // there, towards the guest
	Addresses []netip.Addr  // of the guest
	Port      uint16        // of the ledger
	Interval  time.Duration // mean time between an answer and the next request of a flow
	Seed      uint64        // of the random part
	Patience  time.Duration // for one answer; then a flow gives up
	Again     time.Duration // when a request over UDP without an answer is sent again; 400 ms if zero
	Refresh   time.Duration // how often some of the guest's addresses are asked for anew
	Fleeting  []netip.Addr  // these; to the others requests go on while it cannot answer that

	Each func(Exchange) // called for every request that was answered or given up, by several goroutines; none if nil
}

// Exchange is one request, without newlines, and what came of it: an answer, or an error.
type Exchange struct {
	Flow, Line, Answer string
	Sent, Got          time.Time
	Err                error
}

// Result is what became of one flow.
type Result struct {
	Flow       string `json:"flow"`
	Requests   int    `json:"requests"`
	Again      int    `json:"sent_again"` // over UDP
	RolledBack bool   `json:"rolled_back"`
	Error      string `json:"error,omitempty"` // why it gave up
}

// Load is at work until Stop.
type Load struct {
	Options
	cancel  context.CancelFunc
	abort   context.CancelFunc
	wg      sync.WaitGroup
	flows   []*flow
	mu      sync.Mutex // guards results
	results []Result
}

// Start begins all flows. Names of ledger clients start with name, which must not have
// been used with this ledger.
func Start(name string, o Options) (*Load, error) {
	o.Again = cmp.Or(o.Again, 400*time.Millisecond)
	ns, err := netns.GetFromPid(o.Pid)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	life, abort := context.WithCancel(context.Background())
	l := &Load{Options: o, cancel: cancel, abort: abort}
	for i, a := range o.Addresses {
		for j, network := range []string{"tcp", "udp"} {
			f := &flow{load: l, name: fmt.Sprintf("%s-%s-%d", name, network, i), network: network, addr: netip.AddrPortFrom(a, o.Port), ns: ns}
			f.random = rand.New(rand.NewPCG(o.Seed, uint64(2*i+j)))
			l.flows = append(l.flows, f)
		}
	}
	for _, f := range l.flows {
		l.wg.Go(func() { f.run(ctx, life) })
	}
	l.wg.Go(func() { l.forget(ctx, ns) })
	go func() {
		l.wg.Wait()
		abort()
		ns.Close()
	}()
	return l, nil
}

// Ready waits until connections to a port are taken at every address.
func Ready(ctx context.Context, o Options, port uint16) error {
	ns, err := netns.GetFromPid(o.Pid)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer ns.Close()
	for _, a := range o.Addresses {
		for {
			try, cancel := context.WithTimeout(ctx, time.Second)
			conn, err := dial(try, ns, "tcp", netip.AddrPortFrom(a, port).String())
			cancel()
			if err == nil {
				conn.Close()
				break
			}
			if !wait(ctx, 50*time.Millisecond) {
				return fmt.Errorf("load: the ledger at %s: %w", a, err)
			}
		}
	}
	return nil
}

// Answered waits until every flow has got so many more answers. An error names a flow
// that has given up, or does not get them in time.
func (l *Load) Answered(ctx context.Context, more int64) error {
	for _, f := range l.flows {
		f.goal.Store(f.answered.Load() + more)
	}
	for _, f := range l.flows {
		for f.answered.Load() < f.goal.Load() {
			if err := l.gaveUp(); err != nil {
				return err
			}
			if !wait(ctx, 20*time.Millisecond) {
				return fmt.Errorf("load: %s over %s to %s stopped at %d answers: %w", f.name, f.network, f.addr, f.answered.Load(), ctx.Err())
			}
		}
	}
	return l.gaveUp()
}

// gaveUp names a flow that has.
func (l *Load) gaveUp() error {
	for _, f := range l.flows {
		if f.given.Load() {
			return fmt.Errorf("load: %s over %s to %s gave up after %d answers: %s", f.name, f.network, f.addr, f.answered.Load(), f.why.Load())
		}
	}
	return nil
}

// Stop ends all flows, each after its last answer.
func (l *Load) Stop() []Result {
	l.cancel()
	l.wg.Wait()
	return l.results
}

// Abort ends all flows at once, whatever they wait for.
func (l *Load) Abort() []Result {
	l.abort()
	return l.Stop()
}

// forget drops link addresses of the guest's every now and then, so that they are asked for.
func (l *Load) forget(ctx context.Context, ns netns.NsHandle) {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return
	}
	defer h.Close()
	for l.Refresh > 0 && wait(ctx, l.Refresh) {
		link, err := h.LinkByName(l.Device)
		if err != nil {
			continue
		}
		neighbours, err := h.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
		if err != nil {
			continue
		}
		for _, n := range neighbours {
			a, _ := netip.AddrFromSlice(n.IP)
			if slices.Contains(l.Fleeting, a.Unmap()) && n.State != netlink.NUD_INCOMPLETE { // that one is being asked for
				h.NeighDel(&n) // if it is gone by itself, as well
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// dial connects from another network namespace: a socket belongs to that of the thread
// that makes it.
func dial(ctx context.Context, ns netns.NsHandle, network, addr string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this
		if err = netns.Set(ns); err != nil {
			return
		}
		d := net.Dialer{KeepAlive: -1}
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, network, addr)
	}()
	<-done
	return conn, err
}

// Dial connects from the load's network namespace, as net.Dialer's DialContext.
func (o Options) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ns, err := netns.GetFromPid(o.Pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return dial(ctx, ns, network, addr)
}

// rolledBack tells a ledger that contradicts itself from a network that does not answer.
func rolledBack(err error) bool { return errors.Is(err, client.ErrRolledBack) }
