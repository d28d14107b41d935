package relay

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/vishvananda/netlink"
)

// Relay buffers the output of some taps, all of one guest.
//
//	open <-- Hold, Open --> holding
//	  `--Teardown--> closed   any --Abandon--> cut
type Relay struct {
	readers sync.WaitGroup // one goroutine a NIC; shut ends them
	cut     atomic.Bool    // set first by Abandon: nothing more is written
	count   counters
	nics    []*nic

	// sending orders Release and Open; taken before mu, so that EndEpoch, for which the
	// guest waits, never waits for packets being sent.
	sending sync.Mutex

	mu    sync.Mutex // guards the rest
	h     *netlink.Handle
	epoch uint64 // the one under way
	state state
}

type state int

const (
	open state = iota
	holding
	cut
	closed
)

// New readies a relay for these taps; packets pass them as before until Hold. It
// changes nothing on them.
func New(taps []string, limitBytes int) (*Relay, error) {
	h, err := hook.Handle()
	if err != nil {
		return nil, err
	}
	r := &Relay{h: h, epoch: 1}
	spare := &spares{}
	for _, t := range taps {
		n, err := newNIC(h, t, spare, &r.count, limitBytes, &r.cut)
		if err != nil {
			r.shutLocked()
			return nil, fmt.Errorf("relay: %w", err)
		}
		r.nics = append(r.nics, n)
		r.readers.Go(n.run)
	}
	return r, nil
}

// Hold redirects the taps' output here. Holding already, it does nothing.
func (r *Relay) Hold() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil || r.state == holding {
		return err
	}
	for i, n := range r.nics {
		if err := n.startHolding(); err != nil {
			for _, n := range r.nics[:i+1] {
				err = errors.Join(err, n.stopHolding())
			}
			return fmt.Errorf("hold: %w", err)
		}
	}
	r.state = holding
	return nil
}

func (n *nic) startHolding() error {
	n.keepFromNow()
	if err := n.tap.Inspect(); err != nil {
		return err
	}
	return n.tap.AttachBPF(n.progs.hold)
}

// stopHolding gives a tap its direct path: first all that is held, then the newer
// packets. One that was on its way here meanwhile follows through the reader.
func (n *nic) stopHolding() error {
	if err := n.letAllGo(); err != nil {
		return err
	}
	return n.tap.Detach()
}

// EndEpoch closes the epoch under way and returns its number. The guest stands still.
// An error says that packets may be missing.
func (r *Relay) EndEpoch() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil {
		return 0, err
	}
	var errs []error
	for _, n := range r.nics {
		errs = append(errs, n.end())
	}
	r.epoch++
	return r.epoch - 1, errors.Join(errs...)
}

// Release sends an epoch and all before it, in order. ErrNotEnded for an epoch under
// way or to come; nothing is sent then.
func (r *Relay) Release(epoch uint64) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	if err := r.mayRelease(epoch); err != nil {
		return err
	}
	if mutant.Is(mutant.SecondBuffer) {
		epoch++
	}
	var errs []error
	for _, n := range r.nics {
		errs = append(errs, n.letGo(epoch))
	}
	return errors.Join(errs...)
}

func (r *Relay) mayRelease(epoch uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch >= r.epoch {
		return fmt.Errorf("release %d: %w; %d is under way", epoch, hook.ErrNotEnded, r.epoch)
	}
	return r.usableLocked()
}

// Open lets everything go and gives the taps their direct path back.
func (r *Relay) Open() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.openLocked()
}

func (r *Relay) openLocked() error {
	if err := r.usableLocked(); err != nil || r.state == open {
		return err
	}
	var errs []error
	for _, n := range r.nics {
		errs = append(errs, n.stopHolding())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	r.state = open
	return nil
}

// Teardown is Open, and removes our devices. After an error all is as it was.
func (r *Relay) Teardown() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == closed {
		return nil
	}
	if err := r.openLocked(); err != nil {
		return err
	}
	r.state = closed
	r.shutLocked()
	return nil
}

// Abandon drops what is held and lets nothing pass the taps any more, until Clear. It
// may be called at any time and again; after a Teardown it does nothing. After an error
// a tap that was held is cut all the same.
func (r *Relay) Abandon() error {
	r.cut.Store(true) // ends a Release under way
	r.sending.Lock()
	defer r.sending.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == cut || r.state == closed {
		return nil
	}
	var errs []error
	for _, n := range r.nics {
		if err := n.tap.AttachBPF(n.progs.drop); err != nil && !hook.IsGone(err) {
			errs = append(errs, err)
		}
	}
	r.state = cut
	r.shutLocked()
	for _, n := range r.nics {
		n.discard()
	}
	return errors.Join(errs...)
}

// Stats may be called at any time.
func (r *Relay) Stats() hook.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == open || r.state == holding {
		r.count.missing.Store(r.missingLocked())
	}
	c := &r.count
	return hook.Stats{
		Backend: "relay", Holding: r.state == holding || r.state == cut,
		HeldPackets: uint64(c.heldPackets.Load()), HeldBytes: uint64(c.heldBytes.Load()),
		Released: c.released.Load(), ReleasedBytes: c.releasedBytes.Load(),
		Dropped: c.dropped.Load() + c.missing.Load(), DroppedBytes: c.droppedBytes.Load(),
	}
}

// missingLocked asks the kernel what the hold TAPs' queues had no room for.
func (r *Relay) missingLocked() (sum uint64) {
	for _, n := range r.nics {
		if l, err := r.h.LinkByIndex(n.hold.link.Attrs().Index); err == nil && l.Attrs().Statistics != nil {
			sum += l.Attrs().Statistics.TxDropped
		}
	}
	return sum
}

func (r *Relay) usableLocked() error {
	switch r.state {
	case cut:
		return hook.ErrCut
	case closed:
		return hook.ErrClosed
	}
	return nil
}

// shutLocked removes our devices and ends the readers.
func (r *Relay) shutLocked() {
	for _, n := range r.nics {
		n.close()
	}
	r.readers.Wait()
	r.h.Delete()
}
