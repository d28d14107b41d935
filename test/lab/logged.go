package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// logged runs a command with its output in a file, whose end is shown if it fails. All its
// processes and mounts end with it, and with this process.
func logged(ctx context.Context, path string, progress io.Writer, name string, args ...string) error {
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout = io.MultiWriter(log, &digest{out: progress, began: time.Now()})
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	runtime.LockOSThread() // it is this thread's death that it would be told of
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(path)
		return fmt.Errorf("%w; the end of %s:\n%s", err, path, text[max(0, len(text)-2000):])
	}
	return nil
}

// digest passes on a line now and then of what is written to it.
type digest struct {
	out         io.Writer
	began, last time.Time
}

const digestEvery = 5 * time.Second

func (d *digest) Write(p []byte) (int, error) {
	now := time.Now()
	line, _, _ := bytes.Cut(bytes.TrimSpace(p), []byte("\n"))
	if len(line) == 0 || now.Sub(d.last) < digestEvery {
		return len(p), nil
	}
	d.last = now
	fmt.Fprintf(d.out, "  lab: %3.0f s  %.70s\n", now.Sub(d.began).Seconds(), line)
	return len(p), nil
}
