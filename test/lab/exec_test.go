package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

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
func testTerminal(t *testing.T, l *Lab) { terminal(t, l.Host("h1")) }

func terminal(t *testing.T, h *Host) {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 33, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), "bash", "-c", `read line; tty; stty size; echo "$line"`)
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
