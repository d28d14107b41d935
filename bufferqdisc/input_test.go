package bufferqdisc

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/input"
)

// TestInputHandlerBesideTheBuffer: the two share a tap and its qdisc, whichever comes and
// goes first, neither takes away what the other needs, and in the end nothing is left.
func TestInputHandlerBesideTheBuffer(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for name, order := range map[string][]string{
			"input inside":  {"buffer", "input", "no input", "no buffer"},
			"buffer inside": {"input", "buffer", "no buffer", "no input"},
			"input first":   {"input", "buffer", "no input", "no buffer"},
			"buffer first":  {"buffer", "input", "no buffer", "no input"},
			"with a gate":   {"gate", "input", "buffer", "no gate", "no buffer", "no input"},
			"cleared":       {"buffer", "input", "gate", "abandon", "clear", "no input"},
		} {
			t.Run(name, func(t *testing.T) {
				l := newLab(t, 1)
				before := l.traces()
				p := parts{t: t, l: l, backend: backend}
				for _, step := range order {
					p.do(step)
				}
				must(t, input.Clear(l.taps())) // what Close leaves
				l.wantTraces(before)
				l.send(l.guests[0], 1)
				must(t, l.wantSeqs(1))
			})
		}
	})
}

// parts are what may be on a lab's tap.
type parts struct {
	t       *testing.T
	l       *lab
	backend string
	buffer  Buffer
	mirror  *input.Mirror
	gate    *Gate
}

func (p *parts) do(step string) {
	p.t.Helper()
	var err error
	switch step {
	case "buffer":
		p.buffer = setUp(p.t, p.l, p.backend, 0)
		err = p.buffer.Hold()
	case "no buffer":
		err = p.buffer.Teardown()
	case "abandon":
		p.gate.Abandon()
		err = p.buffer.Abandon()
	case "gate":
		p.gate, err = NewGate("guest", p.l.taps(), time.Now().Add(time.Minute))
	case "no gate":
		err = p.gate.Close()
	case "input":
		p.mirror, err = input.NewMirror(input.MirrorConfig{
			Name: "guest", Taps: p.l.taps(), To: netip.MustParseAddr("192.0.2.1"), Ports: [][]uint16{{4000}},
		})
		must(p.t, err)
		p.t.Cleanup(func() { p.mirror.Close() })
		err = p.mirror.Start()
	case "no input":
		err = p.mirror.Close()
	case "clear":
		err = Clear(p.l.taps())
	}
	if err != nil {
		p.t.Fatalf("%s: %v", step, err)
	}
}
