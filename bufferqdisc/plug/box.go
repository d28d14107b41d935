package plug

import (
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// drainTime bounds the wait for an opened box to become empty. Nothing new comes into it.
	drainTime = 5 * time.Second
	// flightTime bounds the wait for packets between an ifb's queue and the bridge.
	flightTime = 100 * time.Millisecond
)

// box is an ifb whose root qdisc is a plug: a queue that can be shut.
type box struct {
	h     hook.Kernel
	name  string
	index int
	limit uint32 // bytes held at most
}

// prefix tells our ifbs from others'.
const prefix = "hp"

func boxName(tap string) string { return hook.DeviceName(prefix, tap) }

func newIFB(name string) *netlink.Ifb {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return &netlink.Ifb{LinkAttrs: a}
}

// newBox makes a box that is shut, or nothing.
func newBox(h hook.Kernel, name string, limit uint32) (b *box, err error) {
	if err := h.LinkAdd(newIFB(name)); err != nil {
		if !errors.Is(err, unix.EEXIST) {
			h.LinkDel(newIFB(name)) // should it be there, and only the answer lost
		}
		return nil, fmt.Errorf("ifb %s (modprobe ifb): %w", name, err)
	}
	defer func() {
		if err != nil {
			b, err = nil, errors.Join(err, h.LinkDel(newIFB(name)))
		}
	}()
	l, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("ifb %s: %w", name, err)
	}
	b = &box{h: h, name: name, index: l.Attrs().Index, limit: limit}
	if err := hook.Quiet(h, l); err != nil {
		return b, err
	}
	if err := b.plug(); err != nil {
		return b, err
	}
	if err := h.LinkSetUp(l); err != nil {
		return b, fmt.Errorf("ifb %s: %w", name, err)
	}
	return b, nil
}

// find is the box that is there under this name, or nil.
func find(h hook.Kernel, name string) (*box, error) {
	l, err := h.LinkByName(name)
	if hook.IsGone(err) || err == nil && l.Type() != "ifb" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ifb %s: %w", name, err)
	}
	return &box{h: h, name: name, index: l.Attrs().Index}, nil
}

// plugged tells whether the box has its plug still.
func (b *box) plugged() (bool, error) {
	qs, err := b.h.QdiscList(b.link())
	if err != nil {
		return false, fmt.Errorf("qdiscs of %s: %w", b.name, err)
	}
	for _, q := range qs {
		if q.Attrs().Handle == handle && q.Type() == "plug" {
			return true, nil
		}
	}
	return false, nil
}

func (b *box) link() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: b.name, Index: b.index}}
}

// plug gives the box its qdisc, shut.
func (b *box) plug() error {
	if err := b.h.Execute(message(b.index, true, qopt{actLimit, b.limit})); err != nil {
		return fmt.Errorf("plug on %s (modprobe sch_plug): %w", b.name, err)
	}
	return nil
}

// tell gives the plug an order.
func (b *box) tell(a action) error {
	if err := b.h.Execute(message(b.index, false, qopt{action: a})); err != nil {
		return fmt.Errorf("%w: %s on %s: %w", hook.ErrLost, a, b.name, err)
	}
	return nil
}

// drain opens the box and returns when it is empty and all of it is on its way.
func (b *box) drain() error {
	if err := b.tell(actReleaseIndefinite); err != nil {
		return err
	}
	start, wait := time.Now(), 20*time.Microsecond
	for {
		took := time.Since(start) // before the look: one that comes late is not one too many
		c, err := b.counters()
		if err != nil {
			return fmt.Errorf("drain %s: %w", b.name, err)
		}
		if c.held == 0 && (c.flying == 0 || took > flightTime) {
			return nil
		}
		if took > drainTime {
			return fmt.Errorf("%w: %s keeps %d packets", hook.ErrLost, b.name, c.held)
		}
		time.Sleep(wait)
		wait = min(2*wait, time.Millisecond)
	}
}

// counters are of one box since it was made.
type counters struct {
	held, heldBytes         uint64
	flying                  uint64 // past the qdisc, not yet back at the tap
	released, releasedBytes uint64
	dropped                 uint64 // over the limit
}

// counters has what waits and what was over the limit from the qdisc; what has left from
// the device, as a qdisc counts a large packet as 0 to many. An ifb counts as received
// what its queue gave it, and as sent what it gave back to the tap.
func (b *box) counters() (c counters, err error) {
	l, err := b.h.LinkByIndex(b.index)
	if err != nil {
		return c, err
	}
	if s := l.Attrs().Statistics; s != nil {
		c.released, c.releasedBytes = s.TxPackets-s.TxDropped, s.TxBytes
		c.flying = s.RxPackets - s.RxDropped - s.TxPackets
	}
	qs, err := b.h.QdiscList(l)
	if err != nil {
		return c, err
	}
	for _, q := range qs {
		if s := q.Attrs().Statistics; q.Attrs().Handle == handle && s != nil && s.Queue != nil {
			c.held, c.heldBytes = uint64(s.Queue.Qlen), uint64(s.Queue.Backlog)
			c.dropped = uint64(s.Queue.Drops)
		}
	}
	return c, nil
}

func (b *box) remove() error {
	if err := b.h.LinkDel(b.link()); err != nil && !hook.IsGone(err) {
		return fmt.Errorf("remove %s: %w", b.name, err)
	}
	return nil
}
