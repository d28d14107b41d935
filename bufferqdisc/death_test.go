package bufferqdisc

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hamgr/hamgr/test/child"
	hosts "github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	hosts.Init()
	child.Main(begin)
	os.Exit(m.Run())
}

// begin is told the backend, what to do, and the taps.
func begin(order string) (next func() error, err error) {
	words := strings.Split(order, ",")
	if words[0] == "gate" {
		return nil, gateChild(words[2:])
	}
	b, err := Setup(Config{Name: "child", Backend: words[0], Taps: words[2:]})
	if err == nil && words[1] == "hold" {
		err = b.Hold()
	}
	return func() error { _, err := b.EndEpoch(); return err }, err
}

// startChild runs another process that does one thing with a backend, or a gate; Next ends
// an epoch there.
func startChild(t *testing.T, l *lab, backend, do string) *child.Process {
	t.Helper()
	return child.Start(t, strings.Join(append([]string{backend, do}, l.taps()...), ","))
}

func TestDeathWhileHoldingCuts(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 2)
		before := l.traces()
		child := startChild(t, l, backend, "hold")
		l.send(l.guests[0], 1)
		if _, err := Setup(Config{Taps: l.taps(), Backend: backend}); !errors.Is(err, ErrCut) {
			t.Errorf("Setup beside a living buffer: %v", err)
		}
		child.End()
		l.send(l.guests[0], 2)
		l.send(l.guests[1], 3)
		must(t, l.wantSeqs())
		wantRefusalThenClear(l, backend, kept(backend, []uint32{1, 2, 90, 3})...)
		l.wantTraces(before)
		b := setUp(t, l, backend, 0)
		must(t, checkOutputCommit(l, b))
	})
}

// TestDeathWhileOpenHarmsNobody: hamgr's death takes no guest's network away.
func TestDeathWhileOpenHarmsNobody(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		child := startChild(t, l, backend, "open")
		l.send(l.guests[0], 1)
		child.End()
		l.send(l.guests[0], 2)
		must(t, l.wantSeqs(1, 2))
	})
}
