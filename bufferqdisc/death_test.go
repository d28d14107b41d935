package bufferqdisc

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	hosts "github.com/hamgr/hamgr/test/lab"
)

// In a child process this variable has the backend, what to do and the taps.
const childEnv = "BUFFERQDISC_TEST_CHILD"

func TestMain(m *testing.M) {
	hosts.Init()
	if order := os.Getenv(childEnv); order != "" {
		fmt.Println(child(strings.Split(order, ",")))
		bufio.NewReader(os.Stdin).ReadByte() // until killed, or its parent is gone
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(order []string) error {
	if order[0] == "gate" {
		return gateChild(order[2:])
	}
	b, err := Setup(Config{Name: "child", Backend: order[0], Taps: order[2:]})
	if err != nil || order[1] == "open" {
		return err
	}
	return b.Hold()
}

// startChild runs another process with a buffer; the caller ends it by the function returned.
func startChild(t *testing.T, l *lab, backend, do string) (kill func()) {
	t.Helper()
	_, kill = startProcess(t, l, backend, do)
	return kill
}

func startProcess(t *testing.T, l *lab, backend, do string) (p *os.Process, kill func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{backend, do}, l.taps()...), ","))
	c.Stderr = os.Stderr
	_, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	dead := false
	kill = func() {
		if !dead {
			dead = true
			c.Process.Kill()
			c.Wait()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	if line != "<nil>\n" {
		t.Fatalf("child: %s", line)
	}
	return c.Process, kill
}

func TestDeathWhileHoldingCuts(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 2)
		before := l.traces()
		kill := startChild(t, l, backend, "hold")
		l.send(l.guests[0], 1)
		if _, err := Setup(Config{Taps: l.taps(), Backend: backend}); !errors.Is(err, ErrCut) {
			t.Errorf("Setup beside a living buffer: %v", err)
		}
		kill()
		l.send(l.guests[0], 2)
		l.send(l.guests[1], 3)
		must(t, l.wantSeqs())
		wantRefusalThenClear(l, backend)
		if after := l.traces(); after != before {
			t.Errorf("left behind:\n%s\nwas\n%s", after, before)
		}
		b := setUp(t, l, backend, 0)
		must(t, checkOutputCommit(l, b))
	})
}

// TestDeathWhileOpenHarmsNobody: hamgr's death takes no guest's network away.
func TestDeathWhileOpenHarmsNobody(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		kill := startChild(t, l, backend, "open")
		l.send(l.guests[0], 1)
		kill()
		l.send(l.guests[0], 2)
		must(t, l.wantSeqs(1, 2))
	})
}
