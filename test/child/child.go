// Package child runs a test's program again, as a process that the test can kill. The
// process says what came of each thing that it did, a line each.
package child

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// variable has, in a child, what it is to do.
const variable = "HAMGR_TEST_CHILD"

// Main is for TestMain, before any test: in a child it does what the parent wants, and does
// not return. begin does that, and returns what is to be done at each Next.
func Main(begin func(order string) (next func() error, err error)) {
	order := os.Getenv(variable)
	if order == "" {
		return
	}
	in := bufio.NewReader(os.Stdin)
	next, err := begin(order)
	for fmt.Println(err); ; fmt.Println(err) { // until killed, or its parent is gone
		if _, gone := in.ReadString('\n'); gone != nil {
			os.Exit(0)
		}
		err = next()
	}
}

// Process is a child.
type Process struct {
	*os.Process
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// Start runs a child in the calling thread's namespaces, and returns when it has done what
// it was told. It ends with the test.
func Start(t *testing.T, order string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), variable+"="+order)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.Process = p.cmd.Process
	t.Cleanup(p.End)
	p.wantDone()
	return p
}

func (p *Process) wantDone() {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil || line != "<nil>\n" {
		p.t.Fatalf("child: %s %v", line, err)
	}
}

// Next has it do the next thing.
func (p *Process) Next() {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		p.t.Fatal(err)
	}
	p.wantDone()
}

// End kills it, and returns when it is gone.
func (p *Process) End() {
	if p.cmd.ProcessState == nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
}
