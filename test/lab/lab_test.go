package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/vishvananda/netns"
)

// roleVariable makes the test's program something else: see TestMain.
const roleVariable = "HAMGR_LAB_TEST_ROLE"

// TestHost takes one host, and the client host, through all a host can go through.
func TestHost(t *testing.T) {
	l := up(t)
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

func up(t *testing.T) *Lab {
	t.Helper()
	p, err := Prepare(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Up(t.Context(), Spec{Root: p.Root, RunDir: t.TempDir(), Hosts: 1, Binds: []Bind{{From: filepath.Dir(self(t)), To: "/opt/test"}}})
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

func testExec(t *testing.T, l *Lab) {
	cmd := l.Host("h1").Command(t.Context(), "sh", "-c", `hostname; cat; echo "$PATH" >&2; exit 7`)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("given\n"), &out, &errOut
	err := cmd.Run()
	if out.String() != "h1\ngiven\n" || !strings.Contains(errOut.String(), "/opt/hamgr/bin") || status(err) != 7 {
		t.Errorf("got %q, %q, %v", out.String(), errOut.String(), err)
	}
	for command, want := range map[string]int{"kill -KILL $$": 128 + 9, "exec nosuchcommand": 127, "exec /etc": 126} {
		if err := l.Host("h1").Command(t.Context(), "sh", "-c", command).Run(); status(err) != want {
			t.Errorf("%s: %v instead of exit status %d", command, err, want)
		}
	}
	if list, err := l.Host("h1").Exec(t.Context(), "virsh", "list", "--all"); err != nil || !strings.Contains(list, "State") {
		t.Errorf("virsh list: %q, %v", list, err)
	}
}

func status(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// testCancel: a command ends with its context, does not stay on the host, and is told of
// signals.
func testCancel(t *testing.T, l *Lab) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, lines := begin(t, l.Host("h1").Command(ctx, "sh", "-c", "echo begun; exec sleep 1000"))
	lines.next(t)
	cancel()
	lines.end(t)
	cmd, lines := begin(t, l.Host("h1").Command(t.Context(), "sh", "-c", "trap 'exit 9' TERM; echo begun; while :; do sleep 0.01; done"))
	lines.next(t)
	cmd.Process.Signal(syscall.SIGINT) // is for the terminal's keys to say, and ignored
	cmd.Process.Signal(syscall.SIGTERM)
	lines.end(t)
	if err := cmd.Wait(); status(err) != 9 {
		t.Errorf("%v instead of what the command makes of the signal", err)
	}
}

// lines are what a command says; its end means that nobody holds its output any more.
type lines chan string

func begin(t *testing.T, cmd *exec.Cmd) (*exec.Cmd, lines) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := make(lines, 1000)
	go func() {
		defer close(l)
		for s := bufio.NewScanner(out); s.Scan(); {
			l <- s.Text()
		}
	}()
	return cmd, l
}

const patience = 10 * time.Second

func (l lines) next(t *testing.T) string {
	t.Helper()
	select {
	case line, open := <-l:
		if !open {
			t.Fatal("the command ended")
		}
		return line
	case <-time.After(patience):
		t.Fatal("the command says nothing")
		return ""
	}
}

func (l lines) end(t *testing.T) {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case _, open := <-l:
			if !open {
				return
			}
		case <-limit:
			t.Fatal("the command goes on")
		}
	}
}

// testTerminal: the command has a terminal of its host, as large as the one it is shown on.
func testTerminal(t *testing.T, l *Lab) {
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 33, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	cmd := l.Host("h1").Command(t.Context(), "bash", "-c", `read line; tty; stty size; echo "$line"`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	ours.WriteString("typed\r")
	said := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(ours) // ends with an error when nobody has the terminal any more
		said <- string(text)
	}()
	select {
	case text := <-said:
		if !strings.Contains(text, "/dev/pts/") || !strings.Contains(text, "33 99") || !strings.HasSuffix(text, "typed\r\n") {
			t.Errorf("said %q", text)
		}
	case <-time.After(patience):
		t.Fatal("no end")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
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
	result := make(chan error)
	var conn net.Conn
	go func() {
		runtime.LockOSThread() // ends with this goroutine
		ns, err := netns.GetFromPid(h.Pid())
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			conn, err = net.DialTimeout("tcp", addr, patience)
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	return conn
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
