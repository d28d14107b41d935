package bufferqdisc

import (
	"errors"
	"testing"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/gate"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/inject"
	"github.com/vishvananda/netlink"
)

// wantRefusal fails the test unless a broken call, and nothing else, is an error.
func (d *drama) wantRefusal(what string, err error) {
	d.l.t.Helper()
	if d.act = what; (err != nil) != (d.f.Failed != "") || err != nil && !errors.Is(err, inject.Err) {
		d.l.t.Errorf("%s, %q failed in call %d: %v", what, d.f.Failed, d.f.At, err)
	}
}

// die leaves what a process leaves that held one frame of each NIC.
func (d *drama) die() {
	dead, err := Setup(Config{Taps: d.l.taps(), Backend: d.c.Backend})
	must(d.l.t, err)
	must(d.l.t, dead.Hold())
	d.send()
	must(d.l.t, dead.Leave())
	d.look()
}

// TestEveryNetlinkCallOfAClearFails: an agent that is restarted gives a guest its network
// back. One that could not says so, and can try again; what is held stays held till then.
func TestEveryNetlinkCallOfAClearFails(t *testing.T) {
	eachFault(t, func(l *lab, d *drama, f faulty) {
		d.die()
		d.open, d.allowed = true, d.seq
		err := clean(d.c.dial, l.taps(), (*hook.Tap).DetachAll)
		d.wantRefusal("Clear", err)
		if err != nil {
			must(t, Clear(l.taps()))
			d.look()
		} else if d.c.Backend == "plug" {
			d.lookForAll()
		}
	})
}

// TestEveryNetlinkCallOfAClearBufferFails: as that, and the gate stays, in force.
func TestEveryNetlinkCallOfAClearBufferFails(t *testing.T) {
	eachFault(t, func(l *lab, d *drama, f faulty) {
		d.die()
		g, err := NewGate("guest", l.taps(), whenever)
		must(t, err)
		d.send()
		d.look()
		d.open, d.allowed = true, d.seq
		err = clean(d.c.dial, l.taps(), (*hook.Tap).Detach)
		d.wantRefusal("ClearBuffer", err)
		if err != nil {
			must(t, ClearBuffer(l.taps()))
			d.look()
		} else if d.c.Backend == "plug" {
			d.lookForAll()
		}
		l.wantOpen()
		must(t, g.Extend(time.Time{}))
		d.open = false
		d.send()
		d.look()
		must(t, g.Close())
	})
}

// TestEveryNetlinkCallOfADropFails: what another host has taken over is cut all the time,
// and what was held never comes, whether the drop could be done at once or the second time.
func TestEveryNetlinkCallOfADropFails(t *testing.T) {
	eachFault(t, func(l *lab, d *drama, f faulty) {
		d.die()
		err := drop(d.c.dial, l.taps())
		d.wantRefusal("Drop", err)
		d.send()
		d.look()
		if err != nil {
			must(t, Drop(l.taps()))
		}
		if left := own(t); len(left) > 0 {
			t.Errorf("Drop of %s, %q failed in call %d: left %s", d.c.Backend, d.f.Failed, d.f.At, left[0].Attrs().Name)
		}
		d.send()
		d.look()
		must(t, Clear(l.taps()))
		d.look()
	})
}

// TestEveryNetlinkCallOfASweepFails: what is left of a guest that has ended goes, at once or
// the second time, and one that is there keeps its buffer, and what it holds.
func TestEveryNetlinkCallOfASweepFails(t *testing.T) {
	eachFault(t, func(l *lab, d *drama, f faulty) {
		ended := l.guest(len(l.guests))
		dead, err := Setup(Config{Taps: []string{ended.name}, Backend: d.c.Backend})
		must(t, err)
		must(t, dead.Hold())
		must(t, dead.Leave())
		must(t, netlink.LinkDel(byName(t, ended.name)))
		d.b, err = Setup(Config{Taps: l.taps(), Backend: d.c.Backend})
		must(t, err)
		wanted := len(own(t))
		if d.c.Backend == "plug" {
			wanted-- // the other's
		}
		must(t, d.b.Hold())
		d.send()
		err = sweep(d.c.dial)
		d.wantRefusal("Sweep", err)
		if err != nil {
			must(t, Sweep())
		}
		if left := len(own(t)); left != wanted {
			t.Errorf("Sweep of %s, %q failed in call %d: %d devices are left of %d", d.c.Backend, d.f.Failed, d.f.At, left, wanted)
		}
		d.look()
		must(t, d.run("end"))
		must(t, d.run("release"))
		d.lookForAll()
		must(t, d.run("teardown"))
	})
}

// TestEveryNetlinkCallOfAGateFails: one that could not be made has left nothing, one that
// could not be removed is there, and can be removed again.
func TestEveryNetlinkCallOfAGateFails(t *testing.T) {
	eachCall(t, "relay", func(l *lab, d *drama, f faulty) {
		d.open = true
		h, err := d.c.dial()
		must(t, err)
		g, err := gate.New(h, l.taps(), time.Time{})
		if err != nil {
			if !errors.Is(err, inject.Err) {
				t.Errorf("NewGate: %v", err)
			}
			return
		}
		d.open = false
		d.send()
		d.look()
		d.open, d.allowed = true, d.seq
		if err := g.Close(); err != nil && !f.On {
			must(t, g.Close())
		} else if err != nil {
			g.Abandon()
			must(t, Clear(l.taps()))
		}
	})
}
