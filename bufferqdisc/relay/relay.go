package relay

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

// Relay buffers the output of some taps, all of one guest.
//
//	open <-- Hold, Open --> holding
//	  `--Teardown--> closed   any --Abandon--> cut
//
// Something that went wrong half-way while holding leaves it holding and broken: no
// epoch ends or is released any more, until Open.
type Relay struct {
	cut    atomic.Bool // set first by Abandon: nothing more is written
	count  counters
	meter  *meter
	marker *marker
	nics   []*nic

	// sending orders Release and Open, which use the TAPs' files; taken before mu, so that
	// EndEpoch, for which the guest waits, never waits for packets being sent.
	sending sync.Mutex
	buf     []byte // guarded by sending

	mu     sync.Mutex // guards the rest
	h      hook.Kernel
	watch  *hook.Watch
	epoch  uint64           // the one under way
	ends   map[uint64]level // of what has come in, of epochs that wait
	state  state
	broken error
	last   hook.Stats // once cut or closed
}

type state int

const (
	open state = iota
	holding
	cut
	closed
)

// New readies a relay for these taps; packets pass them as before until Hold. It
// changes nothing on them. The handle is its own from now on.
func New(h hook.Kernel, taps []string, limitBytes int) (r *Relay, err error) {
	r = &Relay{h: h, epoch: 1, ends: map[uint64]level{}, buf: make([]byte, tapdev.MaxRead)}
	defer func() {
		if err != nil {
			r.shutLocked()
			r, err = nil, fmt.Errorf("relay: %w", err)
		}
	}()
	if r.watch, err = h.Watch(); err != nil {
		return r, err
	}
	if r.meter, err = newMeter(limitBytes); err != nil {
		return r, err
	}
	if r.marker, err = newMarker(); err != nil {
		return r, err
	}
	for _, t := range taps {
		n, err := newNIC(r, t)
		if err != nil {
			return r, err
		}
		r.nics = append(r.nics, n)
	}
	return r, nil
}

// Hold redirects the taps' output here. Holding already, it does nothing.
func (r *Relay) Hold() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil || r.state == holding {
		return errors.Join(err, r.broken)
	}
	r.meter.empty(r.meter.now())
	for _, n := range r.nics {
		n.next = r.epoch
	}
	if err := r.eachLocked((*nic).startHolding); err != nil {
		err = fmt.Errorf("hold: %w", err)
		e := r.eachLocked((*nic).stopHolding)
		if e != nil {
			r.state, r.broken = holding, err
		}
		return errors.Join(err, e)
	}
	r.state = holding
	r.watch.Look(r.devices()) // forget the events of our own doing
	return nil
}

// checkLocked finds out whether somebody else took the buffer to pieces while it held:
// then packets of the epoch under way may be out. It puts the pieces back, but that
// epoch cannot be committed any more.
func (r *Relay) checkLocked() error {
	if r.broken != nil {
		return r.broken
	}
	c, _ := r.watch.Look(r.devices()) // an error is a change as well
	if !c.Touched {
		return nil
	}
	if err := r.eachLocked((*nic).intact); err != nil {
		r.broken = errors.Join(err, r.eachLocked((*nic).mend))
	}
	return r.broken
}

// eachLocked does it to all NICs, also after an error.
func (r *Relay) eachLocked(do func(*nic) error) error {
	var errs []error
	for _, n := range r.nics {
		errs = append(errs, do(n))
	}
	return errors.Join(errs...)
}

func (r *Relay) devices() hook.Devices {
	d := hook.Devices{Own: map[int]bool{}, Taps: map[int]bool{}}
	for _, n := range r.nics {
		d.Taps[n.tap.Index], d.Own[n.back.Index], d.Own[n.hold.Index] = true, true, true
	}
	return d
}

// EndEpoch closes the epoch under way and returns its number. The guest stands still.
// An error says that packets may be missing, or out.
func (r *Relay) EndEpoch() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil {
		return 0, err
	}
	if r.state == holding {
		err := r.checkLocked()
		if err == nil {
			err = r.eachLocked(func(n *nic) error { return n.end(r.epoch) })
			r.broken = err
		}
		if err != nil {
			return 0, fmt.Errorf("end epoch %d: %w", r.epoch, err)
		}
		r.ends[r.epoch] = r.meter.now()
	}
	r.epoch++
	return r.epoch - 1, nil
}

// Open lets everything go and gives the taps their direct path back. After an error
// some NICs may be open, and Open may be called again.
func (r *Relay) Open() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil {
		return err
	}
	return r.openLocked()
}

func (r *Relay) openLocked() error {
	if r.state == open {
		return nil
	}
	var err error
	if r.broken != nil {
		err = r.eachLocked((*nic).mend)
	}
	if err == nil {
		err = r.eachLocked((*nic).stopHolding)
	}
	if err != nil {
		r.broken = fmt.Errorf("open: %w", err)
		return r.broken
	}
	r.meter.empty(r.meter.now())
	clear(r.ends)
	r.state, r.broken = open, nil
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
	if err := r.usableLocked(); err != nil {
		return err
	}
	if err := r.openLocked(); err != nil {
		return err
	}
	r.last = r.statsLocked()
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
	r.last = r.statsLocked()
	r.last.Dropped += r.last.HeldPackets
	r.last.DroppedBytes += r.last.HeldBytes
	r.last.HeldPackets, r.last.HeldBytes = 0, 0
	r.last.Holding, r.state = true, cut
	r.shutLocked()
	return errors.Join(errs...)
}

// Leave tears an open buffer down and abandons one that holds: what waits here cannot
// outlive this process.
func (r *Relay) Leave() error {
	r.mu.Lock()
	isOpen := r.state == open
	r.mu.Unlock()
	if isOpen {
		return r.Teardown()
	}
	return r.Abandon()
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
	r.marker.close()
	r.meter.close()
	r.watch.Close()
	r.h.Delete()
}
