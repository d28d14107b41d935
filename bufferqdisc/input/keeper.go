package input

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// Config of a Keeper.
type Config struct {
	Name         string     // the guest, for messages
	Listen       netip.Addr // of this host, on the network that the tunnel takes
	From         netip.Addr // the primary
	NICs         int
	LimitPackets int // kept at most, all NICs together; likewise heard, and waiting. Default 32768
	LimitBytes   int // of each of these. Default 32 MiB

	dial dialer // by tests
}

const (
	defaultPackets = 32768
	defaultBytes   = 32 << 20
)

// Keeper is the backup's side for one guest. Its methods may be called from any goroutine.
//
//	keeping --Attend--> keeping, standby's taps held --Deliver, Late--> delivered
//	   any --Close--> closed
type Keeper struct {
	name  string
	lanes []*lane

	work   sync.Mutex // Attend, Deliver, Late and Close: one at a time; guards h and closed
	h      kernel
	closed bool

	mu        sync.Mutex // guards the rest
	delivered KeeperStats
}

// KeeperStats counts packets.
type KeeperStats struct {
	Kept        uint64 `json:"kept_packets"`        // now
	Dropped     uint64 `json:"dropped_packets"`     // the oldest, for want of room
	Missing     uint64 `json:"missing_packets"`     // copied by the primary and not arrived
	Replayed    uint64 `json:"replayed_packets"`    // copies that the restored guest was given
	Heard       uint64 `json:"heard_packets"`       // from the live window, given to it after them
	Undelivered uint64 `json:"undelivered_packets"` // that it did not take in time
	LeftOut     uint64 `json:"left_out_packets"`    // late copies of what is sent to many, which it gets live
	Strange     uint64 `json:"strange_datagrams"`   // not of the tunnel
}

// NewKeeper opens the ports and begins to keep what comes. After an error nothing is left.
func NewKeeper(c Config) (*Keeper, error) {
	if c.LimitPackets <= 0 {
		c.LimitPackets = defaultPackets
	}
	if c.LimitBytes <= 0 {
		c.LimitBytes = defaultBytes
	}
	c.Listen, c.From = c.Listen.Unmap(), c.From.Unmap()
	h, err := c.dial.open()
	if err != nil {
		return nil, err
	}
	k := &Keeper{name: c.Name, h: h}
	for range c.NICs {
		l := &lane{
			buf:  make([]byte, vnetSize+maxFrame+64),
			kept: newLog(c.LimitPackets/c.NICs, c.LimitBytes/c.NICs),
			// What is heard is a trickle: a switch floods what it has no port for.
			heard:  newLog(c.LimitPackets/c.NICs, c.LimitBytes/c.NICs),
			waited: newLog(c.LimitPackets/c.NICs, c.LimitBytes/c.NICs),
		}
		k.lanes = append(k.lanes, l)
		if err := l.open(c); err != nil {
			return nil, errors.Join(fmt.Errorf("input handler of %s: %w", c.Name, err), k.Close())
		}
	}
	return k, nil
}

// Ports are those of each NIC, for the primary's Mirror.
func (k *Keeper) Ports() [][]uint16 {
	var all [][]uint16
	for _, l := range k.lanes {
		var ports []uint16
		for _, s := range l.sockets {
			ports = append(ports, s.port)
		}
		all = append(all, ports)
	}
	return all
}

// Forget drops for each NIC the copies up to a number: a committed checkpoint contains
// them, and what the guest answered has left its host.
func (k *Keeper) Forget(taken []uint64) {
	for i, l := range k.lanes {
		if i < len(taken) {
			l.forget(taken[i])
		}
	}
}

// Tap is a standby's network device.
type Tap struct {
	Name string
	MAC  string // of the guest; empty: its bridge is not listened to
}

// Attend readies the standby's taps, which are down, one for each NIC: when they come up,
// what is sent to the guest waits until Deliver lets it go. After an error nothing waits,
// and Deliver does what it can.
func (k *Keeper) Attend(taps []Tap) error {
	k.work.Lock()
	defer k.work.Unlock()
	if len(taps) != len(k.lanes) {
		return fmt.Errorf("input handler of %s: the standby has %d NICs, the guest %d", k.name, len(taps), len(k.lanes))
	}
	var errs []error
	for i, t := range taps {
		if err := k.lanes[i].attend(k.h, t); err != nil {
			errs = append(errs, fmt.Errorf("input handler of %s: %w", k.name, err))
		}
	}
	return errors.Join(errs...)
}

// Deliver gives the guest, whose taps come up meanwhile, first the copies, then what was
// heard, then live traffic, and returns when live traffic flows. It begins when running is
// closed: QEMU may throw away what it gets before (see Mirror.Pause). It waits for the
// taps, for that, and for a guest that is slow for as long as ctx allows; then what is left
// is dropped.
func (k *Keeper) Deliver(ctx context.Context, running <-chan struct{}) error {
	return k.each(func(l *lane) (KeeperStats, error) { return l.deliver(ctx, running) })
}

// Late gives the guest, after Deliver, the copies that still come, until ctx ends: where the
// guest's process alone has ended, the network sends to its host until it has learned better.
// An error says that a guest that is slow did not get all of them.
func (k *Keeper) Late(ctx context.Context) error {
	return k.each(func(l *lane) (KeeperStats, error) { return l.late(ctx) })
}

// each gives the guest something at all NICs at the same time.
func (k *Keeper) each(give func(*lane) (KeeperStats, error)) error {
	k.work.Lock()
	defer k.work.Unlock()
	var wg sync.WaitGroup
	errs := make([]error, len(k.lanes))
	for i, l := range k.lanes {
		wg.Go(func() {
			s, err := give(l)
			errs[i] = err
			k.mu.Lock()
			defer k.mu.Unlock()
			k.delivered.Replayed += s.Replayed
			k.delivered.Heard += s.Heard
			k.delivered.Undelivered += s.Undelivered
			k.delivered.LeftOut += s.LeftOut
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Stats may be called at any time.
func (k *Keeper) Stats() KeeperStats {
	k.mu.Lock()
	s := k.delivered
	k.mu.Unlock()
	for _, l := range k.lanes {
		l.mu.Lock()
		s.Kept += uint64(len(l.kept.queue))
		s.Dropped += l.kept.dropped + l.heard.dropped + l.waited.dropped
		s.Missing += l.kept.missing
		s.Strange += l.strange
		l.mu.Unlock()
	}
	return s
}

// Close drops what is kept; a tap that is held lets live traffic pass. It may be called
// again, and waits for a Deliver or Late under way.
func (k *Keeper) Close() error {
	k.work.Lock()
	defer k.work.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	var errs []error
	for _, l := range k.lanes {
		errs = append(errs, l.close())
	}
	k.h.Delete()
	return errors.Join(errs...)
}
