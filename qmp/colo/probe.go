package colo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// Report says whether a QEMU can be checkpointed, found by trying.
type Report struct {
	Version string `json:"version"`
	OK      bool   `json:"ok"`
	Missing string `json:"missing,omitempty"` // what it cannot do
	Advice  string `json:"advice,omitempty"`  // what to do about it
}

const (
	probeTimeout = 10 * time.Second
	probeEpochs  = 5
	probeAdvice  = "install QEMU 11.1 or newer (Debian: from trixie-backports), or on KVM one of 9.x, 10.0.13"
)

// Probe starts a throw-away QEMU of the same binary, with firmware only, and runs a few
// epochs on it: some versions never reach COLO, others deadlock in an early epoch, and
// a guest is no place to find out. It takes a second and at most ten; the error is only
// for a probe that could not be made.
func Probe(ctx context.Context, emulator string, kvm bool) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	ctx, quit := context.WithCancelCause(ctx)
	defer quit(nil)
	dir, err := os.MkdirTemp("", "hamgr-probe-")
	if err != nil {
		return Report{}, fmt.Errorf("colo: probe: %w", err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "qmp")
	accel := "tcg"
	if kvm {
		accel = "kvm"
	}
	cmd := exec.Command(emulator, "-machine", "pc", "-accel", accel, "-m", "32", "-nodefaults", "-display", "none",
		"-no-user-config", "-qmp", "unix:"+socket+",server=on,wait=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return Report{Missing: "QEMU does not start: " + err.Error(), Advice: probeAdvice}, nil
	}
	ended := make(chan struct{})
	go func() {
		err := cmd.Wait()
		quit(fmt.Errorf("it ended (%v)", err))
		close(ended)
	}()
	defer func() {
		cmd.Process.Kill()
		<-ended
	}()
	return try(ctx, socket), nil
}

func try(ctx context.Context, socket string) Report {
	mon, err := dialRetry(ctx, socket)
	if err != nil {
		return Report{Missing: "its monitor does not answer: " + err.Error(), Advice: probeAdvice}
	}
	defer mon.Disconnect()
	c := qmp.New(mon)
	v, err := QueryVersion(ctx, c)
	r := Report{Version: v.String()}
	if err == nil {
		err = epochs(ctx, c)
	}
	if err != nil {
		r.Missing = fmt.Sprintf("QEMU %s does not run COLO checkpoints here: %v", v, err)
		r.Advice = probeAdvice
		return r
	}
	r.OK = true
	return r
}

func dialRetry(ctx context.Context, socket string) (*qmp.Socket, error) {
	for {
		mon, err := qmp.DialSocket(ctx, socket)
		if err == nil {
			return mon, nil
		}
		if perr := pause(ctx); perr != nil {
			return nil, errors.Join(perr, err)
		}
	}
}

func epochs(ctx context.Context, c *qmp.Client) error {
	s, err := Arm(ctx, c, Options{}, drain{})
	if err != nil {
		return err
	}
	err = s.Ready()
	for i := 0; i < probeEpochs && err == nil; i++ {
		if err = s.WaitRequest(ctx); err == nil {
			_, err = s.Capture(ctx, func() error { return nil }, drain{})
		}
		if err == nil {
			err = s.Resume()
		}
	}
	if err != nil {
		s.conn.Close()
		return err
	}
	return s.Disarm(ctx)
}

// drain is a Sink that keeps nothing.
type drain struct{}

func (drain) Layout([]byte, []Block) error   { return nil }
func (drain) Page(int, uint64, []byte) error { return nil }
func (drain) Fill(int, uint64, byte) error   { return nil }
