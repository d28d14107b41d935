package bufferqdisc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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
		in := bufio.NewReader(os.Stdin)
		b, err := child(strings.Split(order, ","))
		for fmt.Println(err); ; fmt.Println(err) { // until killed, or its parent is gone
			if _, gone := in.ReadString('\n'); gone != nil {
				os.Exit(0)
			}
			_, err = b.EndEpoch()
		}
	}
	os.Exit(m.Run())
}

func child(order []string) (Buffer, error) {
	if order[0] == "gate" {
		return nil, gateChild(order[2:])
	}
	b, err := Setup(Config{Name: "child", Backend: order[0], Taps: order[2:]})
	if err == nil && order[1] == "hold" {
		err = b.Hold()
	}
	return b, err
}

// process is a child with a buffer or a gate.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// startChild runs another process that does one thing with a backend.
func startChild(t *testing.T, l *lab, backend, do string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(append([]string{backend, do}, l.taps()...), ","))
	p.cmd.Stderr = os.Stderr
	var err error
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.out = bufio.NewReader(out)
	must(t, p.cmd.Start())
	t.Cleanup(p.kill)
	p.wantDone()
	return p
}

func (p *process) wantDone() {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	must(p.t, err)
	if line != "<nil>\n" {
		p.t.Fatalf("child: %s", line)
	}
}

func (p *process) endEpoch() {
	p.t.Helper()
	_, err := io.WriteString(p.in, "\n")
	must(p.t, err)
	p.wantDone()
}

// kill returns when the process is gone.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
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
		child.kill()
		l.send(l.guests[0], 2)
		l.send(l.guests[1], 3)
		must(t, l.wantSeqs())
		wantRefusalThenClear(l, backend, kept(backend, []uint32{1, 2, 90, 3})...)
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
		child := startChild(t, l, backend, "open")
		l.send(l.guests[0], 1)
		child.kill()
		l.send(l.guests[0], 2)
		must(t, l.wantSeqs(1, 2))
	})
}
