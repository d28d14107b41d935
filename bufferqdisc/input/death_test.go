package input

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/hamgr/hamgr/test/child"
	hosts "github.com/hamgr/hamgr/test/lab"
)

func TestMain(m *testing.M) {
	hosts.Init()
	child.Main(func(order string) (func() error, error) { return nil, begin(order) })
	os.Exit(m.Run())
}

// begin does something to tap g0 of its namespace.
func begin(what string) error {
	if what != "attend" {
		m, err := NewMirror(MirrorConfig{Taps: []string{"g0"}, To: netip.MustParseAddr("10.0.0.2"), Ports: [][]uint16{{4000}}})
		if err != nil {
			return err
		}
		if err := m.Start(); err != nil || what == "copy" {
			return err
		}
		return m.Pause(time.Minute)
	}
	k, err := NewKeeper(Config{Listen: netip.MustParseAddr("10.0.0.2"), From: netip.MustParseAddr("10.0.0.1"), NICs: 1})
	if err != nil {
		return err
	}
	return k.Attend([]Tap{{Name: "g0", MAC: "52:54:00:00:00:00"}})
}

// TestDeathHarmsNobody: whatever a process that dies leaves on a tap, its guest is reached
// (I6); and the next process can clear it away, or take its place.
func TestDeathHarmsNobody(t *testing.T) {
	for _, what := range []string{"copy", "pause", "attend"} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t, 1, false)
			h := map[string]*host{"copy": l.primary, "pause": l.primary, "attend": l.backup}[what]
			before := h.traces()
			process := child.Start(t, what)
			if what != "copy" {
				h.send(h.guests[0], 1) // waits
				if p := h.guests[0].tryReceive(); p != nil {
					t.Fatalf("the guest got % x", p)
				}
			}
			process.End()
			h.send(h.guests[0], 2)
			h.guests[0].wantSeqs(t, 2)
			if what == "copy" {
				m, k := l.protect(Config{})
				h.send(h.guests[0], 3)
				if kept := k.keptNow(0); len(kept) != 1 {
					t.Errorf("kept %d", len(kept))
				}
				must(t, m.Close())
			}
			must(t, Clear([]string{"g0"}))
			h.wantTraces(before)
		})
	}
}
