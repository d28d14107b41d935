package bufferqdisc

import (
	"errors"
	"strings"
	"testing"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/plug"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// noIFB is a kernel with all but ifbs, as one is with sch_plug and without the module ifb.
type noIFB struct{ hook.Kernel }

func (k noIFB) LinkAdd(l netlink.Link) error {
	if l.Type() == "ifb" {
		return unix.EOPNOTSUPP
	}
	return k.Kernel.LinkAdd(l)
}

func dialNoIFB() (hook.Kernel, error) {
	h, err := hook.Dial()
	return noIFB{h}, err
}

// TestNoIFB: where no ifb can be made the relay is taken, and a plug that was asked for is
// one clear error, whether the probe finds out or the set-up.
func TestNoIFB(t *testing.T) {
	l := newLab(t, 2)
	before := l.traces()
	probe := func() error { return plug.ProbeBy(dialNoIFB) }
	b, err := Setup(Config{Name: "guest", Taps: l.taps(), dial: dialNoIFB, probe: probe})
	must(t, err)
	if got := b.Stats().Backend; got != "relay" {
		t.Errorf("it is a %s", got)
	}
	must(t, checkOutputCommit(l, b))
	must(t, b.Teardown())
	for name, c := range map[string]Config{
		"probed":     {Backend: "plug", probe: probe},
		"not probed": {Backend: "plug", probe: func() error { return nil }},
	} {
		c.Name, c.Taps, c.dial = "guest", l.taps(), dialNoIFB
		b, err := Setup(c)
		if b != nil || !errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, plug.ErrUnsupported) != (name == "probed") {
			t.Fatalf("%s: %v, %v", name, b, err)
		}
		if s := err.Error(); !strings.Contains(s, "modprobe ifb") || strings.Contains(s, "\n") {
			t.Errorf("%s: %s", name, s)
		}
		t.Log(err)
		l.wantOpen()
		l.wantTraces(before)
	}
}
