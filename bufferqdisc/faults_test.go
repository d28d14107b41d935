package bufferqdisc

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/inject"
	"github.com/vishvananda/netlink"
)

// drama is a life of a buffer with what may be seen of it: a frame that is out when it
// is not allowed out ends the test.
type drama struct {
	l       *lab
	f       *faulty
	c       Config
	b       Buffer
	seq     uint32
	allowed uint32 // the last frame that may be out; order is sending order
	open    bool   // all may be out
	epoch   Epoch
	ends    uint32 // the last frame of that epoch
	act     string // what failed
	out     map[uint32]bool
}

func (d *drama) send() {
	for _, g := range d.l.guests {
		d.seq++
		d.l.send(g, d.seq)
	}
	if d.open {
		d.allowed = d.seq
	}
}

// look fails the test when a frame is out that must not be.
func (d *drama) look() {
	d.l.t.Helper()
	got, err := d.l.arrived()
	must(d.l.t, err)
	for _, p := range got {
		d.out[seqOf(p)] = true
		if s := seqOf(p); s > d.allowed {
			d.l.t.Errorf("%s of %s, call %d: frame %d is out, up to %d may be", d.act, d.f.Failed, d.f.At, s, d.allowed)
		}
	}
}

// lookForAll fails the test when a frame stays where it is that was let go.
func (d *drama) lookForAll() {
	d.l.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		d.look()
		missing := uint32(0)
		for s := uint32(1); s <= d.allowed; s++ {
			if !d.out[s] {
				missing = s
				break
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			d.l.t.Errorf("%s succeeded, %s failed in call %d: frame %d is not out, up to %d should be", d.act, d.f.Failed, d.f.At, missing, d.allowed)
			return
		}
	}
}

// play runs acts until one fails; leave is given before acts that open.
func (d *drama) play(acts []string) error {
	for _, a := range acts {
		d.act = a
		if err := d.run(a); err != nil {
			return err
		}
		d.lookForAll()
		d.send()
		d.look()
	}
	return nil
}

func (d *drama) run(act string) (err error) {
	switch act {
	case "setup":
		d.open = true
		d.b, err = Setup(d.c)
	case "hold":
		if err = d.b.Hold(); err == nil {
			d.open = false
		}
	case "end":
		d.epoch, err = d.b.EndEpoch()
		d.ends = d.seq
	case "release":
		d.allowed = max(d.allowed, d.ends)
		err = d.b.Release(d.epoch, whenever)
	case "open":
		d.open, d.allowed = true, d.seq
		err = d.b.Open()
	case "teardown":
		d.open, d.allowed = true, d.seq
		err = d.b.Teardown()
	}
	return err
}

var life = []string{"setup", "hold", "end", "release", "open", "hold", "end", "teardown"}

// TestEveryNetlinkCallFails breaks one call after the other, until a life of a buffer has
// no call left that could break: an error each time, nothing out that is not released,
// and the guest has its network back with the cluster's leave.
func TestEveryNetlinkCallFails(t *testing.T) {
	eachFault(t, func(l *lab, d *drama, f faulty) {
		if err := d.play(life); err == nil {
			return
		} else if !errors.Is(err, inject.Err) {
			t.Errorf("%s: %v", d.act, err)
		}
		d.send()
		d.look()
		if d.b == nil {
			return // Setup changed nothing
		}
		if d.act == "hold" && !f.On {
			d.open, d.allowed = true, d.seq
			l.wantOpen() // a Hold that fails leaves it open
		}
		if f.At%2 == 0 && !f.On { // with leave: what failed can be done again
			if err := d.b.Teardown(); err != nil {
				t.Errorf("%s of %s, then Teardown: %v", d.act, d.f.Failed, err)
			}
			return
		}
		wasOpen := d.open
		if err := d.b.Abandon(); err != nil && !f.On {
			t.Errorf("%s of %s, then Abandon: %v", d.act, d.f.Failed, err)
		}
		if d.act == "teardown" || f.On && wasOpen {
			return // there may be nothing left to cut, or nothing to cut it with
		}
		d.look()
		d.open, d.allowed = false, d.seq
		d.send()
		d.look()
	})
}

// eachFault runs a play with each backend and each call broken.
func eachFault(t *testing.T, play func(l *lab, d *drama, f faulty)) {
	eachBackend(t, func(t *testing.T, backend string) { eachCall(t, backend, play) })
}

// eachCall runs a play with each call broken, in each way, until none was. All ways at
// once, as most of the time is the kernel's for removing devices.
func eachCall(t *testing.T, backend string, play func(l *lab, d *drama, f faulty)) {
	var all sync.WaitGroup
	for name, way := range inject.Ways {
		all.Go(func() {
			l := newLab(t, 2)
			for way.At = 1; ; way.At++ {
				if last := oneFault(l, backend, faulty{Fault: way}, play); last || t.Failed() {
					break
				}
			}
			t.Logf("%s: %d calls", name, way.At-1)
		})
	}
	all.Wait()
}

// oneFault says whether no call was left to break.
func oneFault(l *lab, backend string, f faulty, play func(l *lab, d *drama, f faulty)) (last bool) {
	before := l.traces()
	d := &drama{l: l, f: &f, out: map[uint32]bool{}}
	d.c = Config{Name: "guest", Taps: l.taps(), Backend: backend, dial: func() (hook.Kernel, error) {
		h, err := hook.Dial()
		f.Kernel = h
		return &f, err
	}}
	play(l, d, f)
	if f.On || d.b != nil {
		must(l.t, Clear(l.taps()))
	}
	l.wantOpen()
	after := l.traces()
	if f.On { // an empty clsact, which nobody could take away again, does no harm
		for _, name := range l.taps() {
			netlink.QdiscDel(clsact(byName(l.t, name)))
		}
		after = l.traces()
	}
	if after != before {
		l.t.Errorf("%s of %s, call %d left behind:\n%s\nwas\n%s", d.act, f.Failed, f.At, after, before)
	}
	return f.Failed == ""
}
