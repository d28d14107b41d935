package lab

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A command on a host with its own kernel: this program, started under execName, sends
// the order to the kernel's init over TCP and passes on what comes and goes. When it is
// killed the command is; when the host loses power it ends as if killed.
const execName = "hamgr-lab-exec"

// order is the first message of a connection, in gob; packets follow.
type order struct{ Args, Env []string }

// packet carries one of these: input to the command, its output, its end.
type packet struct {
	Stdin, Stdout, Stderr []byte
	StdinEnd              bool
	Ended                 bool
	Exit                  int    // 128 and the signal if it was killed, as in a shell
	Error                 string // it was not started
}

// execute is that program: args are the pid and the command. It returns its exit code.
func execute(args []string) (int, error) {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return 0, err
	}
	conn, err := dialKernel(pid)
	if err != nil {
		return 0, fmt.Errorf("reach the host's kernel: %w", err)
	}
	enc, dec := gob.NewEncoder(conn), gob.NewDecoder(conn)
	if err := enc.Encode(order{args[1:], os.Environ()}); err != nil {
		return 0, err
	}
	go func() {
		io.Copy(writer(func(b []byte) error { return enc.Encode(packet{Stdin: b}) }), os.Stdin)
		enc.Encode(packet{StdinEnd: true})
	}()
	for {
		var p packet
		if err := dec.Decode(&p); err != nil {
			return 0, fmt.Errorf("the host's kernel went away: %w", err)
		}
		os.Stdout.Write(p.Stdout)
		os.Stderr.Write(p.Stderr)
		switch {
		case p.Error != "":
			return 0, errors.New(p.Error)
		case p.Ended:
			return p.Exit, nil
		}
	}
}

// dialKernel connects from within the host's network namespace. A host without power
// sends nothing more, not even a FIN; so its init is watched.
func dialKernel(pid int) (net.Conn, error) {
	life, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(life), Events: unix.POLLIN}}, -1)
			if n > 0 || err != unix.EINTR {
				os.Exit(128 + int(syscall.SIGKILL))
			}
		}
	}()
	runtime.LockOSThread() // never unlocked: it stays in that namespace
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return nil, err
	}
	return net.DialTimeout("tcp", net.JoinHostPort(controlInside, controlPort), 10*time.Second)
}

// writer makes a function an io.Writer.
type writer func(b []byte) error

func (w writer) Write(b []byte) (int, error) { return len(b), w(b) }

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
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	stderr, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, err
	}
	pid, ended, err := start(cmd)
	if err != nil {
		return 0, err
	}
	over := make(chan struct{})
	defer close(over)
	go feed(dec, stdin, pid, over)
	var output sync.WaitGroup
	output.Go(func() {
		defer stdout.Close()
		io.Copy(writer(func(b []byte) error { return send(packet{Stdout: b}) }), stdout)
	})
	output.Go(func() {
		defer stderr.Close()
		io.Copy(writer(func(b []byte) error { return send(packet{Stderr: b}) }), stderr)
	})
	output.Wait()
	ws := <-ended
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// feed passes input on until the connection ends; if the command is not over by then, it
// is killed.
func feed(dec *gob.Decoder, stdin io.WriteCloser, pid int, over <-chan struct{}) {
	defer stdin.Close()
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
		if p.StdinEnd {
			stdin.Close()
		}
		stdin.Write(p.Stdin)
	}
}
