package lab

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// serveCommands answers orders, in the kernel's init.
func serveCommands(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "lab: commands:", err)
			time.Sleep(time.Second)
			continue
		}
		go func() {
			defer conn.Close()
			serveCommand(conn)
		}()
	}
}

func serveCommand(conn net.Conn) {
	dec := gob.NewDecoder(conn)
	var o order
	if err := dec.Decode(&o); err != nil || len(o.Args) == 0 {
		return
	}
	var mu sync.Mutex // guards enc
	enc := gob.NewEncoder(conn)
	send := func(p packet) error {
		mu.Lock()
		defer mu.Unlock()
		return enc.Encode(p)
	}
	exit, err := runOrder(o, dec, send)
	if err != nil {
		send(packet{Error: err.Error()})
		return
	}
	send(packet{Ended: true, Exit: exit})
}

func runOrder(o order, dec *gob.Decoder, send func(packet) error) (exit int, err error) {
	cmd := exec.Command(o.Args[0], o.Args[1:]...)
	cmd.Env = o.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	c, err := connect(cmd, o.Terminal)
	if err != nil {
		return 0, err
	}
	pid, ended, err := start(cmd)
	if c.theirs != nil {
		c.theirs.Close()
	}
	if err != nil {
		return 0, err
	}
	over := make(chan struct{})
	defer close(over)
	go feed(dec, c, pid, over)
	var output sync.WaitGroup
	pass := func(from io.ReadCloser, to func([]byte) packet) {
		output.Go(func() {
			defer from.Close()
			io.Copy(writer(func(b []byte) error { return send(to(b)) }), from)
		})
	}
	pass(c.stdout, func(b []byte) packet { return packet{Stdout: b} })
	if c.stderr != nil {
		pass(c.stderr, func(b []byte) packet { return packet{Stderr: b} })
	}
	output.Wait()
	ws := <-ended
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// connection is our side of a command: pipes, or a terminal, which is stdin and stdout.
type connection struct {
	stdin          io.WriteCloser
	stdout, stderr io.ReadCloser
	ours, theirs   *os.File // the terminal's sides; theirs is to be closed when the command has it
}

func connect(cmd *exec.Cmd, size *pty.Winsize) (c connection, err error) {
	if size == nil {
		var err1, err2, err3 error
		c.stdin, err1 = cmd.StdinPipe()
		c.stdout, err2 = cmd.StdoutPipe()
		c.stderr, err3 = cmd.StderrPipe()
		return c, errors.Join(err1, err2, err3)
	}
	ours, theirs, err := pty.Open()
	if err != nil {
		return c, fmt.Errorf("terminal: %w", err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr.Setctty = true
	return connection{stdin: ours, stdout: ours, ours: ours, theirs: theirs}, pty.Setsize(ours, size)
}

// feed passes input on until the connection ends; if the command is not over by then, it
// is killed.
func feed(dec *gob.Decoder, c connection, pid int, over <-chan struct{}) {
	defer c.stdin.Close()
	for {
		var p packet
		if err := dec.Decode(&p); err != nil {
			select {
			case <-over:
			default:
				syscall.Kill(-pid, syscall.SIGKILL)
			}
			return
		}
		if c.ours != nil && p.Resized != nil {
			pty.Setsize(c.ours, p.Resized)
		}
		if p.StdinEnd {
			c.stdin.Close()
		}
		c.stdin.Write(p.Stdin)
	}
}
