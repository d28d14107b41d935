package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A command on a host without a kernel of its own: this program, started under enterName,
// moves into the host's namespaces and runs it. nsenter(1) is not enough: it stops with a
// command that Pause stops, and when it is killed the command is not.
const enterName = "hamgr-lab-enter"

// enter is that program: args are the pid of the host's init and the command. It returns
// its exit status. Where stdin and stdout are a terminal, the command gets one of the host.
func enter(args []string) (int, error) {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread() // whose namespaces change, and whose end the command watches
	if err := setns(pid); err != nil {
		return 0, fmt.Errorf("enter the host of process %d: %w", pid, err)
	}
	if err := os.Setenv("PATH", searchPath); err != nil {
		return 0, err
	}
	cmd := exec.Command("setpriv", append([]string{"--pdeathsig", "KILL", "--"}, args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if term.IsTerminal(0) && term.IsTerminal(1) {
		err = onTerminal(cmd)
	} else {
		err = run(cmd)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		ws := exit.Sys().(syscall.WaitStatus)
		if ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
	return 0, err
}

// setns moves this thread, and the processes it makes, into the host.
func setns(init int) error {
	host, err := unix.PidfdOpen(init, 0)
	if err != nil {
		return err
	}
	defer unix.Close(host)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(host, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC)
}

// run passes on what asks a program to end. A terminal's keys reach the command by
// themselves, and are for it to judge.
func run(cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM || s == syscall.SIGHUP {
				cmd.Process.Signal(s)
			}
		}
	}()
	return cmd.Wait()
}

// onTerminal gives the command a terminal of the host, kept as large as ours.
func onTerminal(cmd *exec.Cmd) error {
	ours, theirs, err := pty.Open()
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if err := pty.InheritSize(os.Stdin, ours); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	go func() { // this and the copies end with the process
		for range resized {
			pty.InheritSize(os.Stdin, ours)
		}
	}()
	was, err := term.MakeRaw(0)
	if err != nil {
		return err
	}
	defer term.Restore(0, was)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	go io.Copy(ours, os.Stdin)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		io.Copy(os.Stdout, ours) // until nobody has the host's side any more
	}()
	err = run(cmd)
	theirs.Close()
	select {
	case <-shown:
	case <-time.After(time.Second): // something in the background keeps it
	}
	return err
}
