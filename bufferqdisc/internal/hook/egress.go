package hook

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

const (
	nameInput = "hamgr-input" // the input handler's filter, on the tap's egress
	prioInput = 1
)

// AttachInput puts a program on the tap's egress, where what goes to the guest passes;
// one of the input handler's that is there is replaced in one step. ErrInTheWay: filters
// of others' are there, of which each could be the last a packet sees. A failure changes
// nothing.
func (t *Tap) AttachInput(prog *ebpf.Program) error {
	if err := t.inspectOut(); err != nil {
		return err
	}
	return t.attach(func(ourQdisc bool) error {
		f := &netlink.BpfFilter{FilterAttrs: t.attrs(prioInput), Fd: prog.FD(), Name: nameInput, DirectAction: true}
		f.Parent, f.Handle = netlink.HANDLE_MIN_EGRESS, 1
		if ourQdisc {
			f.Name += madeQdisc
		}
		return t.h.FilterReplace(f)
	})
}

// DetachInput takes the input handler's program off, as Detach does the buffer.
func (t *Tap) DetachInput() error { return t.detach(func(f found) []netlink.Filter { return f.input }) }

func (t *Tap) inspectOut() error {
	kind, err := t.hookQdisc()
	if err != nil {
		return err
	}
	if kind == "ingress" {
		return fmt.Errorf("%w: %s has an old ingress qdisc, beside which its egress has no hook; use clsact instead (tc qdisc del dev %s ingress)",
			ErrInTheWay, t.Name, t.Name)
	}
	_, others, err := t.outFilters()
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("%w: %s has a %s filter on its egress; remove it (tc filter del dev %s egress)", ErrInTheWay, t.Name, others[0].Type(), t.Name)
	}
	return err
}

// outFilters lists the filters of a clsact's egress. A plain ingress qdisc would answer
// with those of its ingress.
func (t *Tap) outFilters() (ours, others []netlink.Filter, err error) {
	if kind, err := t.hookQdisc(); kind != "clsact" {
		return nil, nil, err
	}
	all, err := t.h.FilterList(t.device(), netlink.HANDLE_MIN_EGRESS)
	if err != nil {
		return nil, nil, fmt.Errorf("egress filters of %s: %w", t.Name, err)
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && strings.TrimSuffix(b.Name, madeQdisc) == nameInput {
			ours = append(ours, f)
		} else {
			others = append(others, f)
		}
	}
	return ours, others, nil
}

// hookQdisc is the kind of the qdisc that filters hang on: clsact, ingress or none.
func (t *Tap) hookQdisc() (string, error) {
	all, err := t.h.QdiscList(t.device())
	if err != nil {
		return "", fmt.Errorf("qdiscs of %s: %w", t.Name, err)
	}
	for _, q := range all {
		if q.Attrs().Handle == netlink.MakeHandle(0xffff, 0) {
			return q.Type(), nil
		}
	}
	return "", nil
}
