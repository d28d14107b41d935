package hook

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// A BPF filter of ours is told by its name, with madeQdisc on a clsact that we made.
	nameBuffer = "hamgr"
	nameGate   = "hamgr-gate"
	madeQdisc  = "+clsact"
	// The gate comes first, and what it lets pass goes on to the buffer.
	prioGate   = 1
	prioBuffer = 2
	// Other kinds of filter have no name; these priorities are our sign.
	prioOurs      = 0x4841
	prioOursQdisc = 0x4842
)

// AttachBPF puts a buffer's program on the tap's ingress; one that is there is replaced
// in one step. A failure changes nothing.
func (t *Tap) AttachBPF(prog *ebpf.Program) error {
	return t.attachBPF(prog, nameBuffer, t.bufferAttrs(prioBuffer))
}

// AttachGate puts a gate's program before the buffer's, as AttachBPF does.
func (t *Tap) AttachGate(prog *ebpf.Program) error {
	return t.attachBPF(prog, nameGate, t.attrs(prioGate))
}

// HasGate tells whether a gate is there.
func (t *Tap) HasGate() (bool, error) {
	found, err := t.filters()
	return len(found.gate) > 0, err
}

// HasOurs tells whether a gate or a buffer is there.
func (t *Tap) HasOurs() (bool, error) {
	found, err := t.filters()
	return len(found.ours()) > 0, err
}

// HasBuffer tells whether a buffer's BPF filter is there.
func (t *Tap) HasBuffer() (bool, error) {
	found, err := t.filters()
	return slices.ContainsFunc(found.buffer, func(f netlink.Filter) bool { return f.Type() == "bpf" }), err
}

// RedirectedTo is the number of the device that the buffer's redirect sends to, 0
// without one.
func (t *Tap) RedirectedTo() (ifindex int, err error) {
	found, err := t.filters()
	for _, f := range found.buffer {
		// The kernel lists the filter's hash table as well, whose handle has no node number.
		if u, ok := f.(*netlink.U32); ok && u.Handle&0xfff != 0 {
			return u.RedirIndex, err
		}
	}
	return 0, err
}

func (t *Tap) attachBPF(prog *ebpf.Program, name string, attrs netlink.FilterAttrs) error {
	return t.attach(func(ourQdisc bool) error {
		f := &netlink.BpfFilter{FilterAttrs: attrs, Fd: prog.FD(), Name: name, DirectAction: true}
		f.Handle = 1
		if ourQdisc {
			f.Name += madeQdisc
		}
		return t.h.FilterReplace(f)
	})
}

// AttachRedirect sends all the tap receives to another device's output (tc-mirred(8)).
// A failure changes nothing.
func (t *Tap) AttachRedirect(ifindex int) error {
	return t.attach(func(ourQdisc bool) error {
		prio := uint16(prioOurs)
		if ourQdisc {
			prio = prioOursQdisc
		}
		// Without a selector it matches all; protocol all, so ARP and IPv6 too.
		return t.h.FilterAdd(&netlink.U32{FilterAttrs: t.bufferAttrs(prio), RedirIndex: ifindex})
	})
}

// attach runs add on a tap that has a clsact (an old-style ingress qdisc serves as well)
// and tells it whether that is ours.
func (t *Tap) attach(add func(ourQdisc bool) error) error {
	fresh, err := t.ensureClsact()
	if err != nil {
		return fmt.Errorf("clsact on %s (needs CAP_NET_ADMIN and sch_ingress): %w", t.Name, err)
	}
	found, err := t.filters()
	if err == nil {
		t.made = t.made || fresh || slices.ContainsFunc(found.ours(), onOurQdisc)
		err = add(t.made)
	}
	if err == nil {
		return nil
	}
	if fresh {
		err = errors.Join(err, t.h.QdiscDel(t.clsact()))
	}
	return fmt.Errorf("filter on %s: %w", t.Name, err)
}

func (t *Tap) ensureClsact() (fresh bool, err error) {
	kind, err := t.hookQdisc()
	if err != nil || kind != "" {
		return false, err
	}
	err = t.h.QdiscAdd(t.clsact())
	if errors.Is(err, unix.EEXIST) { // somebody else's, since we looked
		return false, nil
	}
	if err != nil {
		t.h.QdiscDel(t.clsact()) // should it be there, and only the answer lost
	}
	return err == nil, err
}

// Detach takes the buffer's filters off, and the qdisc if we made it and nothing else
// uses it. A tap that is gone is no error.
func (t *Tap) Detach() error { return t.detach(func(f found) []netlink.Filter { return f.buffer }) }

// DetachGate takes the gate off, as Detach does the buffer.
func (t *Tap) DetachGate() error { return t.detach(func(f found) []netlink.Filter { return f.gate }) }

// DetachAll takes off both.
func (t *Tap) DetachAll() error {
	return t.detach(func(f found) []netlink.Filter { return slices.Concat(f.gate, f.buffer) })
}

func (t *Tap) detach(which func(found) []netlink.Filter) error {
	found, err := t.filters()
	if err != nil {
		return ignoreGone(err)
	}
	doomed := which(found)
	left := len(found.ours()) - len(doomed) + len(found.others) + len(found.outOthers)
	if left == 0 && (t.made || slices.ContainsFunc(doomed, onOurQdisc)) {
		return t.removeClsact()
	}
	for _, f := range doomed {
		if err := t.h.FilterDel(f); ignoreGone(err) != nil {
			return fmt.Errorf("remove the filter from %s: %w", t.Name, err)
		}
	}
	return nil
}

// removeClsact takes all filters with it: no step of it is left to a later process.
func (t *Tap) removeClsact() error {
	kind, err := t.hookQdisc()
	if err == nil && kind == "clsact" {
		err = t.h.QdiscDel(t.clsact())
	}
	if ignoreGone(err) != nil {
		return fmt.Errorf("remove clsact from %s: %w", t.Name, err)
	}
	t.made = false
	return nil
}

// found is what sits on a tap: buffer, gate and others on its ingress, input and
// outOthers on its egress.
type found struct{ buffer, gate, others, input, outOthers []netlink.Filter }

func (f found) ours() []netlink.Filter { return slices.Concat(f.gate, f.buffer, f.input) }

func (t *Tap) filters() (f found, err error) {
	all, err := t.h.FilterList(t.device(), netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return f, fmt.Errorf("filters of %s: %w", t.Name, err)
	}
	for _, one := range all {
		switch name := nameOf(one); {
		case name == nameGate:
			f.gate = append(f.gate, one)
		case name == nameBuffer:
			f.buffer = append(f.buffer, one)
		default:
			f.others = append(f.others, one)
		}
	}
	f.input, f.outOthers, err = t.outFilters()
	return f, err
}

// nameOf is our name for a filter of ours.
func nameOf(f netlink.Filter) string {
	if b, ok := f.(*netlink.BpfFilter); ok {
		return strings.TrimSuffix(b.Name, madeQdisc)
	}
	if p := f.Attrs().Priority; f.Type() == "u32" && (p == prioOurs || p == prioOursQdisc) {
		return nameBuffer
	}
	return ""
}

func onOurQdisc(f netlink.Filter) bool {
	if b, ok := f.(*netlink.BpfFilter); ok {
		return strings.HasSuffix(b.Name, madeQdisc)
	}
	return f.Attrs().Priority == prioOursQdisc
}

func (t *Tap) clsact() *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: t.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

func (t *Tap) attrs(prio uint16) netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: t.Index, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: prio,
	}
}

// bufferAttrs are those of a buffer's filter: what it does not match is not held.
func (t *Tap) bufferAttrs(prio uint16) netlink.FilterAttrs {
	a := t.attrs(prio)
	if mutant.Is(mutant.OnlyIP) {
		a.Protocol = unix.ETH_P_IP
	}
	return a
}

func (t *Tap) device() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: t.Name, Index: t.Index}}
}
