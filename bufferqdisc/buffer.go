package bufferqdisc

import (
	"github.com/hamgr/hamgr/bufferqdisc/relay"
)

// Epoch numbers the stretches between two EndEpochs of one Buffer, from 1.
type Epoch = uint64

// Stats counts what a buffer did since its Setup.
type Stats = relay.Stats

// Buffer holds the output of one guest, all of its NICs together.
type Buffer interface {
	// Hold goes from open to holding.
	Hold() error
	// EndEpoch is called while the guest stands still: all it has sent so far
	// belongs to the epoch returned, or to one before it.
	EndEpoch() (Epoch, error)
	// Release lets an epoch and all before it go, in order.
	Release(Epoch) error
	// Open releases everything and stops holding. Only with the cluster's leave.
	Open() error
	// Stats may be called at any time.
	Stats() Stats
	// Teardown is Open, and removes every trace. Only with the cluster's leave.
	Teardown() error
	// Abandon drops what is held and leaves the taps cut, even when this process
	// is gone, until Clear.
	Abandon() error
}

// Config names what to buffer.
type Config struct {
	Name       string   // the guest, for messages
	Taps       []string // its network devices on this host
	LimitBytes int      // held at most; beyond it packets are dropped and counted. Default 64 MiB
}

// Setup readies a buffer that is open: packets pass as before. It changes nothing when it fails.
func Setup(c Config) (Buffer, error) {
	if c.LimitBytes == 0 {
		c.LimitBytes = 64 << 20
	}
	return relay.New(c.Taps, c.LimitBytes)
}

// Clear removes what an earlier process left on these taps, which opens them. Only with
// the cluster's leave.
func Clear(taps []string) error { return relay.Clear(taps) }
