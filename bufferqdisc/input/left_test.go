package input

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/test/bridge"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// untilLeft is for the moment after the end: all there is on both hosts and in this process
// is what there was at the call.
func (l *lab) untilLeft() (check func()) {
	l.t.Helper()
	b, p := l.backup.traces(), l.primary.traces()
	files, routines := openFiles(l.t), runtime.NumGoroutine()
	return func() {
		l.t.Helper()
		l.backup.wantTraces(b)
		l.primary.wantTraces(p)
		if got := openFiles(l.t); got != files {
			l.t.Errorf("%d files open, were %d", got, files)
		}
		await(l.t, "more goroutines than there were", func(uint32) bool {
			runtime.Gosched()
			return runtime.NumGoroutine() <= routines
		})
	}
}

func openFiles(t *testing.T) int {
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

// TestCloseLeavesNothing of a failover: no device, filter, file or goroutine.
func TestCloseLeavesNothing(t *testing.T) {
	l := newLab(t, 2, false)
	check := l.untilLeft()
	k := l.keep(Config{})
	l.standby(k)
	m, err := NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports(), PID: os.Getpid()})
	must(t, err)
	must(t, m.Outlive())
	must(t, errors.Join(m.Count(), m.Look(), m.Start(), m.Pause(time.Minute)))
	l.primary.send(l.primary.guests[1], 1)
	m.Resume()
	l.primary.guests[1].wantSeqs(t, 1)
	must(t, m.Close())
	l.tapsUp()
	must(t, l.deliver(k, patience)())
	l.backup.guests[1].wantSeqs(t, 1)
	must(t, k.Close())
	for _, h := range []*host{l.backup, l.primary} {
		h.enter()
		must(t, Clear(h.taps()))
	}
	check()
}

// TestTapVanishes: when one of the guest's taps is deleted all that is asked of the kernel
// about it is one clear error, at once; what goes to the other waits and comes as ever, and
// the end is one as others.
func TestTapVanishes(t *testing.T) {
	for name, paused := range map[string]bool{"while copying": false, "in a pause": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, false)
			k := l.keep(Config{})
			check := l.untilLeft()
			g, doomed := l.primary.guests[0], l.primary.doomed()
			ports := k.Ports()[0]
			taps := []string{doomed.name, g.name}
			m, err := NewMirror(MirrorConfig{Name: "guest", Taps: taps, To: l.backup.addr, Ports: [][]uint16{ports[:1], ports[1:]}, PID: os.Getpid()})
			must(t, err)
			must(t, m.Start())
			l.primary.send(doomed, 100)
			if paused {
				must(t, m.Outlive())
				if err := m.Pause(time.Minute); !errors.Is(err, ErrQueued) {
					t.Error(err)
				}
				l.primary.send(doomed, 101)
				l.primary.send(g, 1)
			}
			must(t, netlink.LinkDel(byName(t, doomed.name)))
			if err := m.Outlive(); (err == nil) != paused || err != nil && !strings.Contains(err.Error(), doomed.name) {
				t.Errorf("Outlive: %v", err)
			}
			for what, do := range map[string]func() error{
				"Look":  m.Look,
				"Pause": func() error { m.patience = time.Hour; return m.Pause(time.Minute) },
				"Taken": func() error { _, err := m.Taken(); return err },
			} {
				err := atOnce(t, what, do)
				if !hook.IsGone(err) || !strings.Contains(err.Error(), doomed.name) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", what, err)
				}
			}
			l.primary.send(g, 2)
			must(t, atOnce(t, "Resume", func() error { m.patience = time.Hour; m.Resume(); return nil }))
			l.primary.send(g, 3)
			if paused {
				g.wantSeqs(t, 1)
			}
			g.wantSeqs(t, 2, 3)
			for range 2 {
				must(t, atOnce(t, "Close", m.Close))
			}
			must(t, Clear(taps))
			l.primary.send(g, 4)
			g.wantSeqs(t, 4)
			must(t, unix.Close(doomed.fd))
			check()
		})
	}
}

// doomed is a tap more.
func (h *host) doomed() *guest {
	h.t.Helper()
	g := &guest{name: "doomed", mac: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x66}}
	var err error
	g.fd, err = bridge.OpenTAP(g.name)
	must(h.t, err)
	must(h.t, bridge.PlugIn("br0", g.name))
	await(h.t, "the bridge does not forward", func(n uint32) bool {
		g.speak(h.t)
		h.send(g, n)
		return g.sees(n)
	})
	for h.guests[0].tryReceive() != nil { // what was flooded
	}
	return g
}

// atOnce fails the test if what is done waits for a guest.
func atOnce(t *testing.T, what string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	return within(t, what+" does not return", done)
}
