package hook

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Tap is a guest's device, by number: a later device of the same name is another tap.
type Tap struct {
	Name  string
	Index int
	made  bool // the clsact is ours, whether a filter says so or not
	h     Netlink
}

// Find returns a tap that can be buffered: one for Lookup, without a buffer. ErrCut says
// that an earlier agent left its filter there. A gate is no hindrance.
func Find(h Netlink, name string) (*Tap, error) {
	t, err := Lookup(h, name)
	if err != nil {
		return nil, err
	}
	found, err := t.filters()
	if err != nil {
		return nil, err
	}
	if len(found.buffer) > 0 {
		return nil, fmt.Errorf("%s: %w by an earlier agent; clear it first, with the cluster's leave", name, ErrCut)
	}
	return t, nil
}

// Lookup returns a tap that can be hooked: a TAP (the output of a macvtap or a
// vhost-user port is no ingress, a filter would see nothing of it), with nothing of
// others' on its ingress. ErrInTheWay names what there is.
func Lookup(h Netlink, name string) (*Tap, error) {
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
	if err := t.Inspect(); err != nil {
		return nil, err
	}
	return t, nil
}

// Inspect is ErrInTheWay when a filter of others' is on the tap's ingress.
func (t *Tap) Inspect() error {
	found, err := t.filters()
	if err != nil {
		return err
	}
	if len(found.others) > 0 {
		return fmt.Errorf("%w: %s has a %s filter (libvirt's <bandwidth> makes one); remove it (tc filter del dev %s ingress)",
			ErrInTheWay, t.Name, found.others[0].Type(), t.Name)
	}
	q, err := link.QueryPrograms(link.QueryOptions{Target: t.Index, Attach: ebpf.AttachTCXIngress})
	if err == nil && len(q.Programs) > 0 { // a kernel without tcx answers with an error
		return fmt.Errorf("%w: %s has a tcx program, which comes before the buffer; detach it (bpftool net detach tcx_ingress dev %s)",
			ErrInTheWay, t.Name, t.Name)
	}
	return nil
}

// Left is a tap that an earlier process may have left filters on, or nil when it is gone.
func Left(h Netlink, name string) (*Tap, error) {
	l, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tap %q: %w", name, err)
	}
	return &Tap{Name: name, Index: l.Attrs().Index, h: h}, nil
}

// IsUp tells whether the tap is up and somebody holds its file.
func (t *Tap) IsUp() (bool, error) {
	l, err := t.h.LinkByIndex(t.Index)
	if err != nil {
		return false, fmt.Errorf("%s: %w", t.Name, err)
	}
	return l.Attrs().Flags&net.FlagUp != 0 && l.Attrs().RawFlags&unix.IFF_LOWER_UP != 0, nil
}

// There is ErrLost when the tap is gone.
func (t *Tap) There() error {
	_, err := t.IsUp()
	if IsGone(err) {
		return fmt.Errorf("%w: tap %s is gone", ErrLost, t.Name)
	}
	return err
}

// On is a device of ours as a Tap.
func On(h Netlink, l netlink.Link) *Tap {
	return &Tap{Name: l.Attrs().Name, Index: l.Attrs().Index, h: h}
}
