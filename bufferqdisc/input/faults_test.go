package input

import (
	"errors"
	"fmt"
	"net"
	"testing"

	hosts "github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/labtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errInjected is what a broken call says.
var errInjected = fmt.Errorf("injected: %w", unix.ENOBUFS)

// faults counts the netlink calls of both hosts and breaks one.
type faults struct {
	at     int  // the call that fails, counted from 1
	doesIt bool // it fails after it did its work: the answer was lost
	calls  int
	failed string // what it was
}

func (f *faults) dial() (kernel, error) {
	h, err := dial()
	return &faulty{h, f}, err
}

func try[T any](f *faults, what string, call func() (T, error)) (v T, err error) {
	if f.calls++; f.calls != f.at {
		return call()
	}
	if f.failed = what; f.doesIt {
		call()
	}
	return v, errInjected
}

func (f *faults) do(what string, call func() error) error {
	_, err := try(f, what, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

type faulty struct {
	kernel
	*faults
}

func (f *faulty) LinkByName(n string) (netlink.Link, error) {
	return try(f.faults, "LinkByName", func() (netlink.Link, error) { return f.kernel.LinkByName(n) })
}
func (f *faulty) LinkByIndex(i int) (netlink.Link, error) {
	return try(f.faults, "LinkByIndex", func() (netlink.Link, error) { return f.kernel.LinkByIndex(i) })
}
func (f *faulty) LinkList() ([]netlink.Link, error) {
	return try(f.faults, "LinkList", f.kernel.LinkList)
}
func (f *faulty) LinkGetProtinfo(l netlink.Link) (netlink.Protinfo, error) {
	return try(f.faults, "LinkGetProtinfo", func() (netlink.Protinfo, error) { return f.kernel.LinkGetProtinfo(l) })
}
func (f *faulty) LinkAdd(l netlink.Link) error {
	return f.do("LinkAdd", func() error { return f.kernel.LinkAdd(l) })
}
func (f *faulty) LinkDel(l netlink.Link) error {
	return f.do("LinkDel", func() error { return f.kernel.LinkDel(l) })
}
func (f *faulty) LinkSetUp(l netlink.Link) error {
	return f.do("LinkSetUp", func() error { return f.kernel.LinkSetUp(l) })
}
func (f *faulty) LinkSetTxQLen(l netlink.Link, n int) error {
	return f.do("LinkSetTxQLen", func() error { return f.kernel.LinkSetTxQLen(l, n) })
}
func (f *faulty) LinkSetIP6AddrGenMode(l netlink.Link, mode int) error {
	return f.do("LinkSetIP6AddrGenMode", func() error { return f.kernel.LinkSetIP6AddrGenMode(l, mode) })
}
func (f *faulty) QdiscList(l netlink.Link) ([]netlink.Qdisc, error) {
	return try(f.faults, "QdiscList", func() ([]netlink.Qdisc, error) { return f.kernel.QdiscList(l) })
}
func (f *faulty) QdiscAdd(q netlink.Qdisc) error {
	return f.do("QdiscAdd", func() error { return f.kernel.QdiscAdd(q) })
}
func (f *faulty) QdiscDel(q netlink.Qdisc) error {
	return f.do("QdiscDel", func() error { return f.kernel.QdiscDel(q) })
}
func (f *faulty) FilterList(l netlink.Link, parent uint32) ([]netlink.Filter, error) {
	return try(f.faults, "FilterList", func() ([]netlink.Filter, error) { return f.kernel.FilterList(l, parent) })
}
func (f *faulty) FilterReplace(x netlink.Filter) error {
	return f.do("FilterReplace", func() error { return f.kernel.FilterReplace(x) })
}
func (f *faulty) FilterDel(x netlink.Filter) error {
	return f.do("FilterDel", func() error { return f.kernel.FilterDel(x) })
}
func (f *faulty) RouteGet(to net.IP) ([]netlink.Route, error) {
	return try(f.faults, "RouteGet", func() ([]netlink.Route, error) { return f.kernel.RouteGet(to) })
}
func (f *faulty) NeighSet(n *netlink.Neigh) error {
	return f.do("NeighSet", func() error { return f.kernel.NeighSet(n) })
}

// TestEveryNetlinkCallFails breaks one call after the other of a failover, until there is
// no call left that could break: an error each time, both guests have their network, and
// nothing is left behind.
func TestEveryNetlinkCallFails(t *testing.T) {
	for name, doesIt := range map[string]bool{"not done": false, "answer lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is the kernel's for removing devices
			if labtest.On(hosts.UML) && !doesIt {
				return // slow, and what differs is above the kernel
			}
			l := newLab(t, 1, false)
			for at := 1; ; at++ {
				f := &faults{at: at, doesIt: doesIt}
				err := l.lifeWith(f)
				if f.failed == "" {
					must(t, err)
					t.Logf("%d calls", at-1)
					return
				}
				if !errors.Is(err, errInjected) {
					t.Errorf("call %d, %s: %v", at, f.failed, err)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// lifeWith is all that the handler does for a guest, as far as it comes, and its end.
func (l *lab) lifeWith(f *faults) (err error) {
	p, b := l.primary.traces(), l.backup.traces()
	pg, bg := l.primary.guests[0], l.backup.guests[0]
	step := func(h *host, what func() error) {
		h.enter()
		err = errors.Join(err, what())
	}
	var k *Keeper
	var m *Mirror
	step(l.backup, func() (err error) {
		k, err = NewKeeper(Config{Name: "guest", Listen: l.backup.addr, From: l.primary.addr, NICs: 1, dial: f.dial})
		return err
	})
	if k != nil {
		l.backup.enter()
		must(l.t, netlink.LinkSetDown(byName(l.t, bg.name)))
		step(l.backup, func() error { return k.Attend([]Tap{{Name: bg.name, MAC: bg.mac.String()}}) })
		step(l.primary, func() (err error) {
			m, err = NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports(), dial: f.dial})
			return err
		})
	}
	if m != nil {
		step(l.primary, m.Start)
		step(l.primary, func() error { _, err := m.Taken(); return err })
		l.primary.send(pg, 1)
		step(l.primary, m.Close)
	}
	if k != nil {
		l.tapsUp()
		wait := l.deliver(k, patience)
		step(l.backup, wait)
		step(l.backup, k.Close)
	}
	for _, h := range []*host{l.primary, l.backup} {
		step(h, func() error { return clearTaps(f.dial, h.taps()) })
		h.enter()
		must(l.t, Clear(h.taps()))
	}
	for _, h := range []*host{l.primary, l.backup} {
		h.send(h.guests[0], 2)
		if got, e := h.guests[0].receiveUntil(2); e != nil {
			l.t.Errorf("call %d, %s: the guest got %v: %v", f.at, f.failed, seqsOf(got), e)
		}
	}
	if after := l.primary.traces(); after != p {
		l.t.Errorf("call %d, %s: left on the primary:\n%s\nwas\n%s", f.at, f.failed, after, p)
	}
	if after := l.backup.traces(); after != b {
		l.t.Errorf("call %d, %s: left on the backup:\n%s\nwas\n%s", f.at, f.failed, after, b)
	}
	l.primary.enter()
	return err
}
