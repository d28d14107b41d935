package bufferqdisc

import (
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/plug"
	"github.com/hamgr/hamgr/bufferqdisc/relay"
)

// Epoch numbers the stretches between two EndEpochs of one Buffer, from 1.
type Epoch = uint64

// Stats counts what a buffer did since its Setup.
type Stats = hook.Stats

// Errors of a Buffer, for errors.Is.
var (
	ErrCut      = hook.ErrCut      // the tap is cut; Clear opens it
	ErrInTheWay = hook.ErrInTheWay // somebody else's filter sits on the tap
	ErrNotEnded = hook.ErrNotEnded // that epoch has not ended; nothing was released
	ErrLate     = hook.ErrLate     // the time for a release was over; what is left is held
	ErrClosed   = hook.ErrClosed   // the buffer was torn down
	ErrLost     = hook.ErrLost     // a device of the buffer's is gone, and packets with it
)

// Buffer holds the output of one guest, all of its NICs together. Its methods may be
// called from any goroutine.
//
// After an error of EndEpoch or Open, or of a Hold that could not be undone, a buffer of
// several NICs may be in no one state: it ends and releases no more epochs, which its
// errors say, until an Open has succeeded. Open, Release and Teardown may be called again
// after an error, and Abandon at any time.
type Buffer interface {
	// Hold goes from open to holding. After an error all is open as before.
	Hold() error
	// EndEpoch is called while the guest stands still: all it has sent so far
	// belongs to the epoch returned, or to one before it. After an error that is not
	// sure; the checkpoint must not be committed. ErrLost or ErrInTheWay: somebody else
	// changed what the buffer is made of, and packets may be gone, or out.
	EndEpoch() (Epoch, error)
	// Release lets an epoch and all before it go, in order, until a time.
	// ErrLate: what has not gone by then is held. A relay's deadline is kept by the kernel,
	// whatever becomes of this process meanwhile; a plug is let go by one message for each
	// NIC, and what may come between is a look at the clock and that system call.
	Release(e Epoch, until time.Time) error
	// Open releases everything and stops holding. Only with the cluster's leave.
	Open() error
	// Stats may be called at any time.
	Stats() Stats
	// Teardown is Open, and removes every trace. Only with the cluster's leave.
	Teardown() error
	// Abandon drops what is held and leaves the taps cut, even when this process
	// is gone, until Clear. After a Teardown it does nothing.
	Abandon() error
	// Leave is for a process that ends: an open buffer is torn down; one that holds
	// lets nothing pass any more until Clear, and what a plug holds waits for it.
	Leave() error
}

// Config names what to buffer.
type Config struct {
	Name       string   // the guest, for messages
	Taps       []string // its network devices on this host
	LimitBytes int      // held at most; beyond it packets are dropped and counted. Default 128 MiB
	Backend    string   // "relay", "plug", or "": plug where the kernel has it, else relay

	dial  func() (hook.Kernel, error) // nil: hook.Dial
	probe func() error                // nil: plug.Probe
}

const defaultLimit = 128 << 20 // 10 Gbit/s for 100 ms

// Setup readies a buffer that is open: packets pass as before. It changes nothing when
// it fails: ErrCut when an earlier process left a tap cut, ErrInTheWay when a tap's
// ingress is in other use.
func Setup(c Config) (Buffer, error) {
	if c.LimitBytes <= 0 {
		c.LimitBytes = defaultLimit
	}
	if c.dial == nil {
		c.dial = hook.Dial
	}
	if c.probe == nil {
		c.probe = plug.Probe
	}
	b, err := setup(c)
	if err != nil {
		return nil, fmt.Errorf("output buffer of %s: %w", c.Name, err)
	}
	return b, nil
}

func setup(c Config) (Buffer, error) {
	backend, err := c.backend()
	if err != nil {
		return nil, err
	}
	h, err := c.dial()
	if err != nil {
		return nil, err
	}
	if backend == "plug" {
		return asBuffer(plug.New(h, c.Taps, c.LimitBytes))
	}
	return asBuffer(relay.New(h, c.Taps, c.LimitBytes))
}

func (c Config) backend() (string, error) {
	switch c.Backend {
	case "":
		if c.probe() == nil {
			return "plug", nil
		}
		return "relay", nil
	case "plug":
		return "plug", c.probe()
	case "relay":
		return "relay", nil
	}
	return "", fmt.Errorf("no backend %q; there are relay and plug", c.Backend)
}

// asBuffer keeps a nil pointer from becoming a Buffer that is not nil.
func asBuffer[B Buffer](b B, err error) (Buffer, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Clear removes what an earlier process left on these taps, buffers and gates, which
// opens them: what a plug holds for that process goes first, in order; what a relay held
// died with it. A tap that is gone is no error. Other people's filters stay, and the input
// handler's. Until then what was held stays held, so an agent that is restarted loses no
// packet that was committed. Only with the cluster's leave.
func Clear(taps []string) error { return clean(hook.Dial, taps, (*hook.Tap).DetachAll) }

// ClearBuffer is Clear that leaves a gate where it is, in force.
func ClearBuffer(taps []string) error { return clean(hook.Dial, taps, (*hook.Tap).Detach) }

func clean(dial func() (hook.Kernel, error), taps []string, detach func(*hook.Tap) error) error {
	h, err := dial()
	if err != nil {
		return err
	}
	defer h.Delete()
	var errs []error
	for _, name := range taps {
		t, err := hook.Left(h, name)
		if t != nil {
			if err = plug.LetGo(h, name); err != nil {
				err = fmt.Errorf("what was held for %s may be lost: %w", name, err)
			}
			err = errors.Join(err, detach(t))
		}
		errs = append(errs, err, plug.Remove(h, name))
	}
	return errors.Join(errs...)
}
