package lab

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A command on a host with its own kernel: this program, started under execName, sends
// the order to the kernel's init over TCP and passes on what comes and goes. When it is
// killed the command is; when the host loses power it ends as if killed.
const execName = "hamgr-lab-exec"

// order is the first message of a connection, in gob; packets follow.
type order struct {
	Args, Env []string
	Terminal  *pty.Winsize // of the terminal it is to have, if any
}

// packet carries one of these: input to the command, its output, its end.
type packet struct {
	Stdin, Stdout, Stderr []byte
	StdinEnd              bool
	Resized               *pty.Winsize
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
	life, err := lifeOf(pid)
	if err != nil {
		return 0, fmt.Errorf("reach the host: %w", err)
	}
	conn, err := dialKernel(life, pid)
	if err != nil {
		return 0, fmt.Errorf("reach the host's kernel: %w", err)
	}
	context.AfterFunc(life, func() { conn.Close() })
	code, err := converse(conn, order{Args: args[1:], Env: os.Environ()})
	if life.Err() != nil {
		return 128 + int(syscall.SIGKILL), nil
	}
	return code, err
}

// converse gives the order and passes on what comes and goes until the command has ended.
func converse(conn net.Conn, o order) (int, error) {
	enc, dec := gob.NewEncoder(conn), gob.NewDecoder(conn)
	if term.IsTerminal(0) && term.IsTerminal(1) {
		was, err := term.MakeRaw(0)
		if err != nil {
			return 0, err
		}
		defer term.Restore(0, was)
		if o.Terminal, err = pty.GetsizeFull(os.Stdin); err != nil {
			return 0, err
		}
	}
	if err := enc.Encode(o); err != nil {
		return 0, err
	}
	if o.Terminal != nil {
		go tellSize(enc)
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

// tellSize passes on how large our terminal is when that changes.
func tellSize(enc *gob.Encoder) {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	for range resized {
		if size, err := pty.GetsizeFull(os.Stdin); err == nil {
			enc.Encode(packet{Resized: size})
		}
	}
}

// lifeOf is a context that ends with a process.
func lifeOf(pid int) (context.Context, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	go func() {
		defer end()
		for err := error(unix.EINTR); errors.Is(err, unix.EINTR); {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		}
	}()
	return ctx, nil
}

// dialKernel connects from within the host's network namespace. A host without power
// sends nothing more, not even a FIN; its life says so.
func dialKernel(life context.Context, pid int) (net.Conn, error) {
	runtime.LockOSThread() // never unlocked: it stays in that namespace
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	return d.DialContext(life, "tcp", net.JoinHostPort(controlInside, controlPort))
}

// writer makes a function an io.Writer.
type writer func(b []byte) error

func (w writer) Write(b []byte) (int, error) { return len(b), w(b) }
