package plug

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"golang.org/x/sys/unix"
)

// ErrUnsupported: this kernel has no ifb or no sch_plug.
var ErrUnsupported = errors.New("this kernel cannot plug")

// Probe finds out whether the kernel has what a plug needs, by trying in a network
// namespace of its own that goes away with the answer: nil or ErrUnsupported. It asks once.
var Probe = sync.OnceValue(func() error { return ProbeBy(hook.Dial) })

// ProbeBy is Probe by another way to the kernel, and asks each time.
func ProbeBy(dial func() (hook.Kernel, error)) error {
	answer := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, and with it the namespace, ends with this goroutine.
		runtime.LockOSThread()
		err := probe(dial)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		answer <- err
	}()
	return <-answer
}

func probe(dial func() (hook.Kernel, error)) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("a network namespace to try in: %w", err)
	}
	h, err := dial()
	if err != nil {
		return err
	}
	defer h.Delete()
	_, err = newBox(h, "probe", 1<<20)
	return err
}
