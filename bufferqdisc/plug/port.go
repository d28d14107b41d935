package plug

import (
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
)

// port is one tap and the box that what it receives goes to.
type port struct {
	tap *hook.Tap
	box *box // nil until it is made
}

// newPort gives a tap a box, open, and does not redirect to it yet. After an error what
// was made is in the port.
func newPort(h hook.Kernel, name string, limit uint32) (*port, error) {
	t, err := hook.Find(h, name)
	if err != nil {
		return nil, err
	}
	if err := Remove(h, name); err != nil { // nothing redirects to it: Find would say so
		return nil, err
	}
	o := &port{tap: t}
	if o.box, err = newBox(h, boxName(name), limit); err != nil {
		return o, err
	}
	return o, o.open()
}

func (o *port) attach() error { return o.tap.AttachRedirect(o.box.index) }
func (o *port) open() error   { return o.box.tell(actReleaseIndefinite) }

// end ends an epoch of one that holds, and shuts one that is open. After an error it may
// have done so or not.
func (o *port) end() error { return o.box.tell(actBuffer) }

// release may be told again: a plug that has let an epoch go has none more until the next ends.
func (o *port) release(until time.Time) error {
	if !time.Now().Before(until) {
		return fmt.Errorf("%s: %w", o.tap.Name, hook.ErrLate)
	}
	return o.box.tell(actReleaseOne)
}

// ready has everything in its place, and the queue empty, before a Hold: what waits when
// a plug shuts is in no epoch that it counts, and would be late by so much for good.
func (o *port) ready() error {
	err := o.intact()
	if err != nil && !errors.Is(err, hook.ErrInTheWay) {
		err = o.mend()
	}
	if err != nil {
		return err
	}
	return o.box.drain()
}

// intact tells whether everything is in its place: our filter and no other, and the
// box's plug.
func (o *port) intact() error {
	if err := o.tap.There(); err != nil {
		return err
	}
	if err := o.tap.Inspect(); err != nil {
		return err
	}
	to, err := o.tap.RedirectedTo()
	if err == nil && to != o.box.index {
		err = fmt.Errorf("%w: the filter of %s was removed by somebody else", hook.ErrLost, o.tap.Name)
	}
	if err != nil {
		return err
	}
	there, err := o.box.plugged()
	if err == nil && !there {
		err = fmt.Errorf("%w: the plug of %s on %s was removed by somebody else", hook.ErrLost, o.tap.Name, o.box.name)
	}
	return err
}

// mend puts back what is missing, shut.
func (o *port) mend() error {
	there, err := o.box.plugged()
	if err == nil && !there {
		err = o.box.plug()
	}
	errs := []error{err, o.box.h.LinkSetUp(o.box.link())}
	to, err := o.tap.RedirectedTo()
	if err == nil && to != o.box.index {
		err = o.attach()
	}
	return errors.Join(append(errs, err)...)
}

// demolish takes the filter away and then the box, when all of it is out. It may be
// called again after an error.
func (o *port) demolish() error {
	if err := o.tap.Detach(); err != nil {
		return err
	}
	if o.box == nil {
		return nil
	}
	if err := o.box.drain(); err != nil && !hook.IsGone(err) {
		return err
	}
	return o.box.remove()
}

// cut removes the box and leaves the filter, which then drops. A box that cannot be
// removed is shut.
func (o *port) cut() error {
	if err := o.box.remove(); err != nil {
		return errors.Join(err, o.end())
	}
	return nil
}
