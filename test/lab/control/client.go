package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// callLimit bounds a call; the longest honest one waits for a host's libvirt.
const callLimit = 150 * time.Second

// ErrNoLab is that nobody answers in the run directory.
var ErrNoLab = &Error{ExitNoLab, "no lab is up", "lab up makes one"}

// Client asks for verbs on the lab of a run directory.
type Client struct{ Dir string }

// Do asks for one. Errors: *Error, ErrNoLab among them.
func (c Client) Do(r Request) (Answer, error) {
	conn, err := c.dial()
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	return call(conn, r)
}

func (c Client) dial() (*net.UnixConn, error) {
	conn, err := net.DialTimeout("unix", socket(c.Dir), time.Second)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNoLab
	case errors.Is(err, fs.ErrPermission):
		return nil, &Error{ExitFailed, fmt.Sprintf("the lab: %v", err), "it is root's"}
	case err != nil:
		return nil, fmt.Errorf("the lab: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

func call(conn net.Conn, r Request) (a Answer, err error) {
	conn.SetDeadline(time.Now().Add(callLimit))
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return a, fmt.Errorf("ask the lab to %s: %w", r.Verb, err)
	}
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return a, &Error{ExitFailed, fmt.Sprintf("the lab went away before it answered: %v", err), "if it was killed its hosts are gone; lab up makes new ones"}
	}
	if a.Error != nil {
		return a, a.Error
	}
	return a, nil
}

// Command is a command on a host, for this process's own input and output. This program
// must call lab.Init.
func (c Client) Command(ctx context.Context, host string, args ...string) (*exec.Cmd, error) {
	a, err := c.Do(Request{Verb: "exec", Host: host, Args: args})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = a.Args
	return cmd, nil
}

// Down ends the lab and returns when its process has ended. What it did is for people;
// a lab that is not there, or was killed, is no error.
func (c Client) Down() (did string, err error) {
	conn, err := c.dial()
	if errors.Is(err, ErrNoLab) {
		return c.sweep()
	}
	if err != nil {
		return "", err
	}
	defer conn.Close()
	end, err := owner(conn)
	if err != nil {
		return "", fmt.Errorf("the lab's process: %w", err)
	}
	defer end.Close()
	if _, err := call(conn, Request{Verb: "down"}); err != nil {
		return "", err
	}
	return "the lab is down", end.wait(10 * time.Second)
}

// sweep removes what a killed lab has left: its socket.
func (c Client) sweep() (did string, err error) {
	if _, err := os.Lstat(socket(c.Dir)); errors.Is(err, fs.ErrNotExist) {
		return "no lab is up", nil
	}
	lock, err := take(c.Dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.Dir, err)
	}
	give(lock, c.Dir)
	return "the lab was killed, and its hosts with it; nothing else was left than its socket", nil
}

// process is one that may end, as a pidfd.
type process struct{ fd, pid int }

// owner is the process at the other end.
func owner(conn *net.UnixConn) (p process, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return p, err
	}
	var cred *unix.Ucred
	if err2 := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err2 != nil {
		return p, err2
	}
	if err != nil {
		return p, err
	}
	fd, err := unix.PidfdOpen(int(cred.Pid), 0)
	return process{fd, int(cred.Pid)}, err
}

func (p process) wait(limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(max(0, time.Until(end)).Milliseconds()))
		switch {
		case n > 0:
			return nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			return &Error{ExitFailed, fmt.Sprintf("process %d says that the lab is down, but does not end", p.pid), "kill -9 does no harm"}
		}
	}
}

func (p process) Close() { unix.Close(p.fd) }
