package plug

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnsupported: this kernel has no ifb or no sch_plug.
var ErrUnsupported = errors.New("this kernel cannot plug")

// Probe finds out whether the kernel has what a plug needs, by trying in a network
// namespace of its own that goes away with the answer: nil or ErrUnsupported. It asks once.
var Probe = sync.OnceValue(func() error {
	answer := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, and with it the namespace, ends with this goroutine.
		runtime.LockOSThread()
		answer <- probe()
	}()
	return <-answer
})

func probe() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("%w: a network namespace to try in: %w", ErrUnsupported, err)
	}
	h, err := hook.Handle()
	if err != nil {
		return err
	}
	defer h.Delete()
	if err := h.LinkAdd(newIFB("probe")); err != nil {
		return fmt.Errorf("%w: an ifb (modprobe ifb): %w", ErrUnsupported, err)
	}
	l, err := h.LinkByName("probe")
	if err != nil {
		return err
	}
	w, err := openWire()
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.send(message(l.Attrs().Index, true, qopt{actLimit, 1 << 20})); err != nil {
		return fmt.Errorf("%w: sch_plug (modprobe sch_plug): %w", ErrUnsupported, err)
	}
	return nil
}

func newIFB(name string) *netlink.Ifb {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return &netlink.Ifb{LinkAttrs: a}
}
