package plug

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/internal/mutant"
)

// ErrOutstanding: an ended epoch waits for its Release; a plug remembers no second.
var ErrOutstanding = errors.New("the epoch before is not released yet")

// Plug buffers the output of some taps, all of one guest.
//
//	open <-- Hold, Open --> holding
//	  `--Teardown--> closed   any --Abandon--> cut
//
// Something that went wrong half-way while holding leaves it holding and broken: no
// epoch ends or is released any more, until Open.
type Plug struct {
	mu     sync.Mutex // guards all
	h      hook.Kernel
	watch  *hook.Watch
	ports  []*port
	epoch  uint64 // the one under way
	ended  bool   // the epoch before it waits
	state  state
	broken error
	last   hook.Stats // when the devices were last seen
}

type state int

const (
	open state = iota
	holding
	cut
	closed
)

// Hold plugs. Holding already, it does nothing.
func (p *Plug) Hold() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil || p.state == holding {
		return errors.Join(err, p.broken)
	}
	if _, err := p.watch.Look(p.devices()); err != nil { // open, no change did harm
		return err
	}
	err := p.each((*port).ready)
	if err == nil {
		err = p.each((*port).end)
	}
	p.state, p.ended = holding, false
	if err == nil {
		return nil
	}
	err = fmt.Errorf("hold: %w", err)
	p.broken = err
	return errors.Join(err, p.openLocked())
}

// EndEpoch marks the epoch's end. ErrOutstanding when the one before was not released.
func (p *Plug) EndEpoch() (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return 0, err
	}
	if p.state == holding {
		if p.ended {
			return 0, fmt.Errorf("end epoch %d: %w", p.epoch, ErrOutstanding)
		}
		if err := p.checkLocked(); err != nil {
			return 0, fmt.Errorf("end epoch %d: %w", p.epoch, err)
		}
		if err := p.each((*port).end); err != nil {
			p.broken = fmt.Errorf("end epoch %d: %w", p.epoch, err)
			return 0, p.broken
		}
		if mutant.Is(mutant.SecondBuffer) {
			p.each((*port).end)
		}
		p.ended = true
	}
	p.epoch++
	return p.epoch - 1, nil
}

// Release lets the ended epoch go. ErrNotEnded for one under way or to come, ErrLost
// after a reset of the queue: nothing goes out then, and nothing will until Open. ErrLate:
// a NIC's turn came after that time, and what it held stays held. After this or another
// error some of it may be out, and Release may be called again.
func (p *Plug) Release(epoch uint64, until time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return err
	}
	if epoch >= p.epoch {
		return fmt.Errorf("release %d: %w; %d is under way", epoch, hook.ErrNotEnded, p.epoch)
	}
	if p.state != holding || !p.ended || epoch != p.epoch-1 {
		return nil // it has gone already
	}
	err := p.checkLocked()
	if err == nil {
		err = p.each(func(o *port) error { return o.release(until) })
	}
	if err != nil {
		return fmt.Errorf("release %d: %w", epoch, err)
	}
	p.ended = false
	return nil
}

// Open lets everything go, now and from now on. After an error some NICs may be open,
// and Open may be called again.
func (p *Plug) Open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return err
	}
	return p.openLocked()
}

func (p *Plug) openLocked() error {
	if p.state == open {
		return nil
	}
	var err error
	if p.broken != nil {
		err = p.each((*port).mend)
	}
	if err == nil {
		err = p.each((*port).open)
	}
	if err != nil {
		p.broken = fmt.Errorf("open: %w", err)
		return p.broken
	}
	p.state, p.ended, p.broken = open, false, nil
	return nil
}

// Teardown is Open, and removes filters and ifbs. After an error it may be called again.
func (p *Plug) Teardown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.teardownLocked()
}

func (p *Plug) teardownLocked() error {
	if p.state == closed {
		return nil
	}
	if err := p.usableLocked(); err != nil {
		return err
	}
	if err := p.openLocked(); err != nil {
		return err
	}
	p.statsLocked()
	if err := p.each((*port).demolish); err != nil {
		return err
	}
	p.state = closed
	p.close()
	return nil
}

// Abandon drops what is held and lets nothing pass any more, until Clear: a redirect to
// a device that is gone drops the packet. After a Teardown it does nothing.
func (p *Plug) Abandon() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == cut || p.state == closed {
		return nil
	}
	s := p.statsLocked()
	p.last.Dropped += s.HeldPackets
	p.last.DroppedBytes += s.HeldBytes
	p.last.HeldPackets, p.last.HeldBytes = 0, 0
	p.state = cut
	err := p.each((*port).cut)
	p.close()
	return err
}

// Leave tears an open buffer down. One that holds stays as it is, in the kernel's hands.
func (p *Plug) Leave() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case open:
		return p.teardownLocked()
	case holding:
		p.statsLocked()
		p.state = cut
		p.close()
	}
	return nil
}

// checkLocked finds out whether somebody else took the buffer to pieces while it held:
// then packets of the epoch under way may be lost, or out. It puts the pieces back,
// shut, but no epoch can be told from another any more.
func (p *Plug) checkLocked() error {
	if p.broken != nil {
		return p.broken
	}
	c, err := p.watch.Look(p.devices())
	if c.Down {
		p.broken = errors.Join(fmt.Errorf("%w: an ifb went down, and what it held is gone", hook.ErrLost), err)
		return p.broken
	}
	if !c.Touched {
		return nil
	}
	if err := p.each((*port).intact); err != nil {
		p.broken = errors.Join(err, p.each((*port).mend))
	}
	return p.broken
}

// each does it to all ports, also after an error.
func (p *Plug) each(do func(*port) error) error {
	var errs []error
	for _, o := range p.ports {
		errs = append(errs, do(o))
	}
	return errors.Join(errs...)
}

func (p *Plug) devices() hook.Devices {
	d := hook.Devices{Own: map[int]bool{}, Taps: map[int]bool{}}
	for _, o := range p.ports {
		d.Taps[o.tap.Index] = true
		d.Own[o.box.index] = true
	}
	return d
}

func (p *Plug) usableLocked() error {
	switch p.state {
	case cut:
		return hook.ErrCut
	case closed:
		return hook.ErrClosed
	}
	return nil
}

func (p *Plug) close() {
	p.watch.Close()
	p.h.Delete()
}
