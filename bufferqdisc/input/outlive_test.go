package input

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"github.com/hamgr/hamgr/test/bridge"
	"golang.org/x/sys/unix"
)

// TestOutlive: what comes for a guest whose process has died is copied, until Close, and then
// its tap is gone.
func TestOutlive(t *testing.T) {
	l := newLab(t, 2, false)
	k := l.keep(Config{})
	m, err := NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports(), PID: os.Getpid()})
	must(t, err)
	must(t, m.Start())
	must(t, m.Outlive())
	must(t, m.Outlive())
	for _, g := range l.primary.guests {
		must(t, unix.Dup3(devNull(t), g.fd, unix.O_CLOEXEC)) // the lab closes it
	}
	for seq := range uint32(2) {
		l.primary.send(l.primary.guests[0], seq)
		l.primary.send(l.primary.guests[1], seq)
	}
	for nic := range l.primary.guests {
		if kept := len(k.keptNow(nic)); kept != 2 {
			t.Errorf("NIC %d: kept %d of two", nic, kept)
		}
	}
	must(t, m.Close())
	for _, s := range m.sources {
		if up, err := s.tap.IsUp(); err == nil {
			t.Errorf("%s is still there; up: %t", s.tap.Name, up)
		}
	}
}

func devNull(t *testing.T) int {
	f, err := os.Open(os.DevNull)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

// TestOutliveHere: of two taps of one name that a process has, it is the one of this host.
func TestOutliveHere(t *testing.T) {
	l := newLab(t, 1, false)
	for _, h := range []*host{l.backup, l.primary} {
		h.enter()
		fd, err := outlive(os.Getpid(), h.guests[0].name)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
	}
	for _, h := range []*host{l.backup, l.primary} {
		h.enter()
		must(t, unix.Dup3(devNull(t), h.guests[0].fd, unix.O_CLOEXEC)) // the lab closes it
		byName(t, h.guests[0].name)
	}
}

// TestOutliveAmongOthers: a file that the process closes while it is looked through does not
// end the search, and one that may not be had does.
func TestOutliveAmongOthers(t *testing.T) {
	l := newLab(t, 1, false)
	g := l.primary.guests[0]
	other, err := bridge.OpenTAP("other")
	must(t, err)
	files, err := tunFiles(os.Getpid())
	must(t, err)
	if !slices.Contains(files, other) || !slices.Contains(files, g.fd) {
		t.Fatalf("%v are found, and not %d and %d", files, other, g.fd)
	}
	pidfd := func(pid int) int {
		p, err := unix.PidfdOpen(pid, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(p) })
		return p
	}
	own, foreign := pidfd(os.Getpid()), pidfd(os.Getppid())
	must(t, unix.Close(other)) // last, that nothing else has the number
	fd, err := borrow(own, []int{other, g.fd}, g.name)
	must(t, err)
	unix.Close(fd)
	refused := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread alone gives up what it may
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
			refused <- e
		}
		_, err := borrow(foreign, []int{0, 1}, g.name)
		refused <- err
	}()
	if err := <-refused; !errors.Is(err, unix.EPERM) {
		t.Errorf("%v", err)
	}
}

// TestOutliveNobody: a process that does not have the tap open, or is gone, is an error, and
// the copies are made all the same.
func TestOutliveNobody(t *testing.T) {
	gone := exec.Command("true")
	must(t, gone.Run())
	for name, pid := range map[string]int{"another process": os.Getppid(), "one that is gone": gone.Process.Pid} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, false)
			k := l.keep(Config{})
			m, err := NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports(), PID: pid})
			must(t, err)
			t.Cleanup(func() { must(t, m.Close()) })
			must(t, m.Start())
			if err := m.Outlive(); err == nil {
				t.Error("no error")
			} else {
				t.Log(err)
			}
			l.primary.send(l.primary.guests[0], 1)
			if kept := len(k.keptNow(0)); kept != 1 {
				t.Errorf("kept %d of one", kept)
			}
		})
	}
}
