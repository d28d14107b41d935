package hook

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	nameOurs      = "hamgr"        // a BPF filter on a clsact that was there before
	nameOursQdisc = "hamgr+clsact" // a BPF filter on a clsact that we made
	prioBPF       = 1
	// Other kinds of filter have no name; these priorities are our sign.
	prioOurs      = 0x4841
	prioOursQdisc = 0x4842

	socketTimeout = 2 * time.Second
)

// Handle is netlink in the network namespace of the caller's thread, whichever thread
// uses it later. Close it with Delete.
func Handle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if err := h.SetSocketTimeout(socketTimeout); err != nil {
		h.Delete()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return h, nil
}

// DeviceName is unique for a tap on this host and fits into IFNAMSIZ. The prefix has at
// most 7 octets.
func DeviceName(prefix, tap string) string {
	f := fnv.New32a()
	f.Write([]byte(tap))
	return fmt.Sprintf("%s%08x", prefix, f.Sum32())
}

// Tap is a guest's device, by number: a later device of the same name is another tap.
type Tap struct {
	Name  string
	Index int
	h     *netlink.Handle
}

// Find returns a tap that can be buffered: a TAP (the output of a macvtap or a
// vhost-user port is no ingress, a filter would see nothing of it), with nothing on its
// ingress. ErrCut says that an earlier agent left its filter there, ErrInTheWay names
// what else there is.
func Find(h *netlink.Handle, name string) (*Tap, error) {
	l, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("tap %q: %w", name, err)
	}
	if t, ok := l.(*netlink.Tuntap); !ok || t.Mode != netlink.TUNTAP_MODE_TAP {
		return nil, fmt.Errorf("%s is a %s and not a TAP: its guest's output cannot be held here; attach the guest's network by a bridge", name, l.Type())
	}
	t := &Tap{Name: name, Index: l.Attrs().Index, h: h}
	if x := l.Attrs().Xdp; x != nil && x.Attached {
		return nil, fmt.Errorf("%w: %s has an XDP program, which comes before the buffer; remove it (ip link set dev %s xdp off)", ErrInTheWay, name, name)
	}
	ours, err := t.Inspect()
	if err != nil {
		return nil, err
	}
	if ours > 0 {
		return nil, fmt.Errorf("%s: %w by an earlier agent; clear it first, with the cluster's leave", name, ErrCut)
	}
	return t, nil
}

// Inspect counts our filters on the tap's ingress; with any other there it is ErrInTheWay.
func (t *Tap) Inspect() (ours int, err error) {
	mine, others, err := t.filters()
	if err != nil {
		return 0, err
	}
	if len(others) > 0 {
		return 0, fmt.Errorf("%w: %s has a %s filter (libvirt's <bandwidth> makes one); remove it (tc filter del dev %s ingress)",
			ErrInTheWay, t.Name, others[0].Type(), t.Name)
	}
	q, err := link.QueryPrograms(link.QueryOptions{Target: t.Index, Attach: ebpf.AttachTCXIngress})
	if err == nil && len(q.Programs) > 0 { // a kernel without tcx answers with an error
		return 0, fmt.Errorf("%w: %s has a tcx program, which comes before the buffer; detach it (bpftool net detach tcx_ingress dev %s)",
			ErrInTheWay, t.Name, t.Name)
	}
	return len(mine), nil
}

// AttachBPF puts a program on the tap's ingress; one of ours that is there is replaced
// in one step. A failure changes nothing.
func (t *Tap) AttachBPF(prog *ebpf.Program) error {
	return t.attach(func(ourQdisc bool) error {
		f := &netlink.BpfFilter{FilterAttrs: t.attrs(prioBPF), Fd: prog.FD(), Name: nameOurs, DirectAction: true}
		f.Handle = 1
		if ourQdisc {
			f.Name = nameOursQdisc
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
		return t.h.FilterAdd(&netlink.U32{FilterAttrs: t.attrs(prio), RedirIndex: ifindex})
	})
}

// attach runs add on a tap that has a clsact (an old-style ingress qdisc serves as well)
// and tells it whether that is ours.
func (t *Tap) attach(add func(ourQdisc bool) error) error {
	err := t.h.QdiscAdd(t.clsact())
	fresh := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact on %s (needs CAP_NET_ADMIN and sch_ingress): %w", t.Name, err)
	}
	ours, _, err := t.filters()
	if err == nil {
		err = add(fresh || len(ours) > 0 && ourQdisc(ours[0]))
	}
	if err == nil {
		return nil
	}
	if fresh {
		err = errors.Join(err, t.h.QdiscDel(t.clsact()))
	}
	return fmt.Errorf("filter on %s: %w", t.Name, err)
}

// Detach takes our filters off, and the qdisc if we made it and nothing else uses it.
// A tap that is gone is no error.
func (t *Tap) Detach() error {
	ours, others, err := t.filters()
	if err != nil {
		return ignoreGone(err)
	}
	made := false
	for _, f := range ours {
		made = made || ourQdisc(f)
		if err := t.h.FilterDel(f); ignoreGone(err) != nil {
			return fmt.Errorf("remove the filter from %s: %w", t.Name, err)
		}
	}
	if !made || len(others) > 0 {
		return nil
	}
	egress, err := t.h.FilterList(t.device(), netlink.HANDLE_MIN_EGRESS)
	if err != nil || len(egress) > 0 {
		return ignoreGone(err)
	}
	if err := t.h.QdiscDel(t.clsact()); ignoreGone(err) != nil {
		return fmt.Errorf("remove clsact from %s: %w", t.Name, err)
	}
	return nil
}

// Clear detaches what any process left on the named tap. A tap that is gone has nothing left.
func Clear(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tap %q: %w", name, err)
	}
	return (&Tap{Name: name, Index: l.Attrs().Index, h: h}).Detach()
}

func (t *Tap) filters() (ours, others []netlink.Filter, err error) {
	all, err := t.h.FilterList(t.device(), netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return nil, nil, fmt.Errorf("filters of %s: %w", t.Name, err)
	}
	for _, f := range all {
		if isOurs(f) {
			ours = append(ours, f)
		} else {
			others = append(others, f)
		}
	}
	return ours, others, nil
}

func isOurs(f netlink.Filter) bool {
	if b, ok := f.(*netlink.BpfFilter); ok {
		return b.Name == nameOurs || b.Name == nameOursQdisc
	}
	p := f.Attrs().Priority
	return f.Type() == "u32" && (p == prioOurs || p == prioOursQdisc)
}

func ourQdisc(f netlink.Filter) bool {
	if b, ok := f.(*netlink.BpfFilter); ok {
		return strings.HasSuffix(b.Name, "+clsact")
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

func (t *Tap) device() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: t.Name, Index: t.Index}}
}

// IsGone tells that the error says no more than that the device does not exist.
func IsGone(err error) bool { return errors.Is(err, unix.ENODEV) }

func ignoreGone(err error) error {
	if IsGone(err) {
		return nil
	}
	return err
}

// On is a device of ours as a Tap.
func On(h *netlink.Handle, l netlink.Link) *Tap {
	return &Tap{Name: l.Attrs().Name, Index: l.Attrs().Index, h: h}
}
