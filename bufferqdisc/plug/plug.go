package plug

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/vishvananda/netlink"
)

// ErrOutstanding: an ended epoch waits for its Release; a plug remembers no second.
var ErrOutstanding = errors.New("the epoch before is not released yet")

// Plug buffers the output of some taps, all of one guest.
//
//	open <-- Hold, Open --> holding
//	  `--Teardown--> closed   any --Abandon--> cut
type Plug struct {
	mu      sync.Mutex // guards all
	h       *netlink.Handle
	wire    *wire
	ports   []*port
	devices map[int]bool // the ifbs, by number
	epoch   uint64       // the one under way
	ended   bool         // the epoch before it waits
	state   state
	last    hook.Stats // when the devices were last seen
}

type state int

const (
	open state = iota
	holding
	cut
	closed
)

// port is one tap and its ifb.
type port struct {
	tap *hook.Tap
	ifb netlink.Link
}

// New readies a plug for these taps, open. It changes nothing when it fails.
func New(taps []string, limitBytes int) (p *Plug, err error) {
	p = &Plug{epoch: 1, devices: map[int]bool{}, last: hook.Stats{Backend: "plug"}}
	if p.h, err = hook.Handle(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.shutLocked(true)
			p, err = nil, fmt.Errorf("plug: %w", err)
		}
	}()
	if p.wire, err = openWire(); err != nil {
		return p, err
	}
	for _, t := range taps {
		if err := p.add(t, uint32(limitBytes/len(taps))); err != nil {
			return p, err
		}
	}
	for _, o := range p.ports {
		if err := o.tap.AttachRedirect(o.ifb.Attrs().Index); err != nil {
			return p, err
		}
	}
	_, err = p.wire.flapped(p.devices) // forget the events of our own doing
	return p, err
}

// add makes the ifb of a tap, with an open plug.
func (p *Plug) add(name string, limit uint32) error {
	tap, err := hook.Find(p.h, name)
	if err != nil {
		return err
	}
	dev := newIFB(deviceName(name))
	if err := p.h.LinkAdd(dev); err != nil {
		return fmt.Errorf("ifb %s for %s: %w", dev.Name, name, err)
	}
	ifb, err := p.h.LinkByName(dev.Name)
	if err != nil {
		return err
	}
	p.ports = append(p.ports, &port{tap, ifb})
	index := ifb.Attrs().Index
	p.devices[index] = true
	if err := hook.Quiet(p.h, ifb); err != nil {
		return err
	}
	if err := p.wire.send(message(index, true, qopt{actLimit, limit})); err != nil {
		return fmt.Errorf("plug on %s: %w", dev.Name, err)
	}
	if err := p.wire.send(message(index, false, qopt{action: actReleaseIndefinite})); err != nil {
		return fmt.Errorf("open the plug on %s: %w", dev.Name, err)
	}
	if err := p.h.LinkSetUp(ifb); err != nil {
		return fmt.Errorf("ifb %s: %w", dev.Name, err)
	}
	return nil
}

func deviceName(tap string) string { return hook.DeviceName("hp", tap) }

// tell sends an action to all plugs.
func (p *Plug) tell(a action) error {
	var errs []error
	for _, o := range p.ports {
		if err := p.wire.send(message(o.ifb.Attrs().Index, false, qopt{action: a})); err != nil {
			errs = append(errs, fmt.Errorf("%w: plug on %s for %s: %w", hook.ErrLost, o.ifb.Attrs().Name, o.tap.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Hold plugs. Holding already, it does nothing.
func (p *Plug) Hold() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil || p.state == holding {
		return err
	}
	if _, err := p.wire.flapped(p.devices); err != nil { // open, a flap does no harm
		return err
	}
	if err := p.tell(actBuffer); err != nil {
		return errors.Join(fmt.Errorf("hold: %w", err), p.tell(actReleaseIndefinite))
	}
	p.state, p.ended = holding, false
	return nil
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
		if err := p.tell(actBuffer); err != nil {
			return 0, err
		}
		if mutant.Is(mutant.SecondBuffer) {
			p.tell(actBuffer)
		}
		p.ended = true
	}
	p.epoch++
	return p.epoch - 1, nil
}

// Release lets the ended epoch go. ErrNotEnded for one under way or to come, ErrLost
// after a reset of the queue: nothing goes out then, and nothing will until Open.
func (p *Plug) Release(epoch uint64) error {
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
	if down, err := p.wire.flapped(p.devices); down || err != nil {
		return errors.Join(fmt.Errorf("release %d: %w: an ifb went down, and what it held is gone", epoch, hook.ErrLost), err)
	}
	if err := p.tell(actReleaseOne); err != nil {
		return err
	}
	p.ended = false
	return nil
}

// Open lets everything go, now and from now on.
func (p *Plug) Open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.openLocked()
}

func (p *Plug) openLocked() error {
	if err := p.usableLocked(); err != nil || p.state == open {
		return err
	}
	if err := p.tell(actReleaseIndefinite); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	p.state, p.ended = open, false
	return nil
}

// Teardown is Open, and removes filters and ifbs.
func (p *Plug) Teardown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == closed {
		return nil
	}
	if err := p.openLocked(); err != nil {
		return err
	}
	p.statsLocked()
	p.state = closed
	return p.shutLocked(true)
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
	return p.shutLocked(false)
}

// shutLocked removes the ifbs, and with free the filters before them.
func (p *Plug) shutLocked(free bool) error {
	var errs []error
	for _, o := range p.ports {
		if free {
			errs = append(errs, o.tap.Detach())
		}
		if err := p.h.LinkDel(o.ifb); err != nil && !hook.IsGone(err) {
			errs = append(errs, fmt.Errorf("remove %s: %w", o.ifb.Attrs().Name, err))
		}
	}
	if p.wire != nil {
		p.wire.close()
	}
	p.h.Delete()
	return errors.Join(errs...)
}

// Stats may be called at any time.
func (p *Plug) Stats() hook.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.statsLocked()
}

// statsLocked asks the kernel, which counts from New on; closed or cut, it is what the
// kernel said last.
func (p *Plug) statsLocked() hook.Stats {
	p.last.Holding = p.state == holding || p.state == cut
	if p.state == cut || p.state == closed {
		return p.last
	}
	now := hook.Stats{Backend: "plug", Holding: p.last.Holding}
	for _, o := range p.ports {
		if err := p.count(&now, o.ifb); err != nil {
			return p.last
		}
	}
	p.last = now
	return now
}

// count adds an ifb's: what waits and what was over the limit is the qdisc's to say;
// what has left, the device's, as a qdisc counts a large packet as 0 to many.
func (p *Plug) count(sum *hook.Stats, ifb netlink.Link) error {
	l, err := p.h.LinkByIndex(ifb.Attrs().Index)
	if err != nil {
		return err
	}
	if s := l.Attrs().Statistics; s != nil {
		sum.Released += s.TxPackets
		sum.ReleasedBytes += s.TxBytes
	}
	qs, err := p.h.QdiscList(l)
	if err != nil {
		return err
	}
	for _, q := range qs {
		if s := q.Attrs().Statistics; q.Attrs().Handle == handle && s != nil && s.Queue != nil {
			sum.HeldPackets += uint64(s.Queue.Qlen)
			sum.HeldBytes += uint64(s.Queue.Backlog)
			sum.Dropped += uint64(s.Queue.Drops)
		}
	}
	return nil
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

// Remove deletes the ifb that an earlier process left for a tap. Call it when nothing
// redirects to it any more.
func Remove(h *netlink.Handle, tap string) error {
	l, err := h.LinkByName(deviceName(tap))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ifb of %s: %w", tap, err)
	}
	if err := h.LinkDel(l); err != nil {
		return fmt.Errorf("remove %s of %s: %w", l.Attrs().Name, tap, err)
	}
	return nil
}
