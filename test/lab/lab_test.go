package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// roleVariable makes the test's program something else: see TestMain.
const roleVariable = "HAMGR_LAB_TEST_ROLE"

// TestHost takes one host, and the client host, through all a host can go through.
func TestHost(t *testing.T) {
	l := up(t, 1)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *Lab)
	}{
		{"exec", testExec}, {"cancel", testCancel}, {"terminal", testTerminal}, {"cut", testCut},
		{"pause", testPause}, {"power", testPower},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, l) })
	}
}

func up(t *testing.T, hosts int) *Lab {
	t.Helper()
	p, err := Prepare(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Up(t.Context(), Spec{Root: p.Root, RunDir: t.TempDir(), Hosts: hosts, Binds: []Bind{{From: filepath.Dir(self(t)), To: "/opt/test"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Down()
		noTraces(t)
	})
	return l
}

func self(t *testing.T) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// testCut: each network by itself.
func testCut(t *testing.T, l *Lab) {
	addrs := map[string]string{"mgmt": "10.77.0.1", "guest": "10.78.0.1"}
	h := l.Host("h1")
	for _, network := range Networks {
		waitPing(t, l, addrs[network])
		if err := h.Cut(network); err != nil {
			t.Fatal(err)
		}
		for _, other := range Networks {
			up, err := h.Connected(other)
			if reached := ping(t, l, addrs[other]); err != nil || up != (other != network) || reached != up {
				t.Errorf("%s is cut; link to %s up: %v, answers: %v, %v", network, other, up, reached, err)
			}
		}
		if err := h.Heal(network); err != nil {
			t.Fatal(err)
		}
		waitPing(t, l, addrs[network])
	}
	if err := h.Cut("nosuch"); err == nil {
		t.Error("a network that does not exist was cut")
	}
}

func ping(t *testing.T, l *Lab, addr string) bool {
	_, err := l.Host("client").Exec(t.Context(), "ping", "-c1", "-W0.5", addr)
	return err == nil
}

func waitPing(t *testing.T, l *Lab, addr string) {
	t.Helper()
	for end := time.Now().Add(patience); !ping(t, l, addr); {
		if time.Now().After(end) {
			t.Fatal(addr, "does not answer")
		}
	}
}

// busy makes new processes all the time and says what it is told, until it is told no more.
const busy = `while :; do /bin/true; done & while read line; do echo "$line"; done; kill $!; exit 9`

// testPause: every process stands still, and goes on later.
func testPause(t *testing.T, l *Lab) {
	h := l.Host("h1")
	cmd := h.Command(t.Context(), "sh", "-c", busy)
	tell, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	_, lines := begin(t, cmd)
	fmt.Fprintln(tell, "before")
	lines.next(t)
	if err := h.Pause(); err != nil {
		t.Fatal(err)
	}
	if is := h.State(); is != StatePaused {
		t.Error("the host is", is)
	}
	still(t, h)
	var state *StateError
	if _, err := h.Exec(t.Context(), "true"); !errors.As(err, &state) || state.State != StatePaused {
		t.Errorf("exec: %v", err)
	}
	if err := h.Pause(); !errors.As(err, &state) {
		t.Errorf("paused twice: %v", err)
	}
	fmt.Fprintln(tell, "meanwhile")
	if err := h.Resume(); err != nil {
		t.Fatal(err)
	}
	lines.next(t)
	if _, err := h.Exec(t.Context(), "true"); err != nil {
		t.Error(err)
	}
	tell.Close()
	lines.end(t)
	if err := cmd.Wait(); status(err) != 9 {
		t.Errorf("the command ended with %v after its host was paused and resumed", err)
	}
}

// still waits until each thread of the host, as its own proc shows them, is stopped, is
// dead, or waits in the kernel for one that is stopped, as after vfork.
func still(t *testing.T, h *Host) {
	t.Helper()
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		moving := ""
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root/proc/[0-9]*/task/*/stat", h.Pid()))
		if len(threads) < 5 {
			t.Fatal("the host has no more threads than", threads)
		}
		for _, path := range threads {
			stat, _ := os.ReadFile(path)
			if _, rest, _ := strings.Cut(string(stat), ") "); rest != "" && !strings.Contains("TDZX", rest[:1]) {
				moving = string(stat)
			}
		}
		if moving == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatal("still moving: ", moving)
		}
	}
}

// testPower: the other end of a connection hears nothing when the plug is pulled, and the
// host comes back with empty disks.
func testPower(t *testing.T, l *Lab) {
	h := l.Host("h1")
	if _, err := h.Exec(t.Context(), "touch", "/var/lib/mark"); err != nil {
		t.Fatal(err)
	}
	_, lines := begin(t, h.Command(t.Context(), "env", roleVariable+"=echo", "/opt/test/"+filepath.Base(self(t))))
	lines.next(t)
	conn := dial(t, l.Host("client"), "10.77.0.1:7")
	defer conn.Close()
	answers(t, conn)
	if err := h.Cut("guest"); err != nil { // where it has no link any more, there is none to take
		t.Fatal(err)
	}
	if _, err := h.PowerOff(); err != nil {
		t.Fatal(err)
	}
	lines.end(t)
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the host said something at its end: %d bytes, %v", n, err)
	}
	off(t, h)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	if err := h.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Exec(t.Context(), "test", "!", "-e", "/var/lib/mark"); err != nil {
		t.Error("the disks survived:", err)
	}
	waitPing(t, l, "10.77.0.1")
	if err := h.Start(); err == nil {
		t.Error("a running host was started")
	}
}

// off: what a host without power refuses.
func off(t *testing.T, h *Host) {
	t.Helper()
	_, exec := h.Exec(t.Context(), "true")
	_, powerOff := h.PowerOff()
	for verb, err := range map[string]error{"exec": exec, "power off": powerOff, "cut": h.Cut("mgmt"), "pause": h.Pause(), "resume": h.Resume()} {
		var state *StateError
		if !errors.As(err, &state) || state.State != StateOff {
			t.Errorf("%s of a host that is off: %v", verb, err)
		}
	}
}

// dial connects from a host's network.
func dial(t *testing.T, h *Host, addr string) net.Conn {
	t.Helper()
	var conn net.Conn
	inside(t, h, func() (err error) {
		conn, err = net.DialTimeout("tcp", addr, patience)
		return err
	})
	return conn
}

// inside runs f in the network of a host.
func inside(t *testing.T, h *Host, f func() error) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with this goroutine
		ns, err := netns.GetFromPid(h.Pid())
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func answers(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// echo is a server on a host.
func echo() {
	l, err := net.Listen("tcp", ":7")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go io.Copy(c, c)
	}
}
