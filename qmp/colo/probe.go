package colo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// Report says whether a QEMU can be checkpointed, found by trying.
type Report struct {
	Version string `json:"version"`           // empty when it did not come that far
	OK      bool   `json:"ok"`                // all epochs ran
	Missing string `json:"missing,omitempty"` // what it cannot do
	Advice  string `json:"advice,omitempty"`  // what to do about it
}

const (
	probeTimeout = 10 * time.Second // without progress: a host may be busy
	probeEpochs  = 20
)

// Probe starts a throw-away QEMU of the same binary (x86, machine "pc") with firmware
// only, and runs a few epochs on it: some versions never reach COLO, others deadlock in an
// early epoch, and a guest is no place to find out. It takes about a second and at most
// ten for a step that does not end; nothing is left of it. The error is for a probe that
// could not be made, not for a QEMU that cannot do it: ctx ended, or there were no files or
// processes to be had.
func Probe(ctx context.Context, emulator string, kvm bool) (Report, error) {
	return probe(ctx, emulator, kvm, probeTimeout)
}

func probe(parent context.Context, emulator string, kvm bool, timeout time.Duration) (Report, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	stuck := time.AfterFunc(timeout, func() { cancel(context.DeadlineExceeded) })
	defer stuck.Stop()
	q, err := startQEMU(ctx, probeArgs(emulator, kvm))
	if err != nil {
		if parent.Err() != nil {
			return Report{}, context.Cause(parent)
		}
		return Report{Missing: fmt.Sprintf("%s does not start: %v", emulator, err), Advice: adviceInstall}, nil
	}
	defer q.stop()
	t := trial{kvm: kvm, progress: func() { stuck.Reset(timeout) }}
	err = t.run(q.ctx, q.monitor)
	q.stop()
	if err == nil {
		return Report{Version: t.version.String(), OK: true}, nil
	}
	if parent.Err() != nil {
		return Report{}, fmt.Errorf("colo: probe of %s: %w", emulator, context.Cause(parent))
	}
	return t.report(err, q), nil
}

func probeArgs(emulator string, kvm bool) []string {
	accel := "tcg"
	if kvm {
		accel = "kvm"
	}
	return []string{emulator, "-machine", "pc", "-accel", accel, "-m", "32", "-nodefaults", "-no-user-config", "-display", "none"}
}

// process is a QEMU of our own. Its monitor is a socket pair, so it leaves no files.
type process struct {
	ctx     context.Context // ends when the process does
	pid     int
	monitor *net.UnixConn
	stderr  tail
	cancel  context.CancelCauseFunc
	gone    chan struct{} // closed when the process has been waited for
}

// startQEMU runs a QEMU until ctx ends or stop is called.
func startQEMU(ctx context.Context, args []string) (*process, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &process{monitor: ours.(*net.UnixConn), gone: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	started := make(chan error)
	go p.run(append(args, "-chardev", "socket,id=probe,fd=3", "-qmp", "chardev:probe"), theirs, started)
	if err := <-started; err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// run owns the process. It keeps to one thread, since the parent-death signal, which ends
// QEMU with a hamgr that is killed, is bound to the thread that started it.
func (p *process) run(args []string, monitor *os.File, started chan<- error) {
	defer close(p.gone)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(p.ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = []*os.File{monitor}
	cmd.Stderr = &p.stderr
	cmd.WaitDelay = time.Second // should something else hold its stderr
	err := cmd.Start()
	if err == nil {
		p.pid = cmd.Process.Pid
	}
	if started <- err; err != nil {
		return
	}
	err = cmd.Wait()
	p.cancel(fmt.Errorf("QEMU ended: %v", cmd.ProcessState))
}

// stop kills the process and waits for it.
func (p *process) stop() {
	p.cancel(nil)
	p.monitor.Close()
	<-p.gone
}

// tail keeps the first KiB of what is written to it: QEMU's first complaint is the cause.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b[:min(len(b), 1024-len(t.b))]...)
	return len(b), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.b)) }

// trial is how far one probe came.
type trial struct {
	kvm     bool
	version Version
	armed   bool
	epoch   int // that it was in, from 1

	progress func() // called at the end of each step
}

func (t *trial) run(ctx context.Context, monitor *net.UnixConn) error {
	mon, err := qmp.NewSocket(ctx, monitor)
	if err != nil {
		return err
	}
	defer mon.Disconnect()
	c := qmp.New(mon)
	if t.version, err = QueryVersion(ctx, c); err != nil {
		return err
	}
	t.progress()
	s, err := Arm(ctx, c, Options{}, drain{})
	if err != nil {
		return err
	}
	t.armed = true
	t.progress()
	if err := t.epochs(ctx, s); err != nil {
		s.conn.Close() // no use in a way back: the process ends
		return err
	}
	return s.Disarm(ctx)
}

func (t *trial) epochs(ctx context.Context, s *Session) error {
	err := s.Ready()
	for t.epoch = 1; t.epoch <= probeEpochs && err == nil; t.epoch++ {
		if err = s.WaitRequest(ctx); err != nil {
			break
		}
		if _, err = s.Capture(ctx, nil, drain{}); err == nil {
			err = s.Resume()
		}
		t.progress()
	}
	return err
}

const (
	adviceInstall = "install a QEMU with COLO: 11.1 or newer; with KVM also 10.0.7 to 10.0.x (Debian 13 has 10.0.13) or 7.2 to 9.x"
	adviceBuild   = "install a QEMU built with COLO (configure option \"replication\"): Debian's, Ubuntu's, Fedora's and SUSE's are, RHEL's is not"
	adviceFixed   = "install a QEMU with the fix of November 2025: 10.0.7, 10.1.2, 11.1 or newer (in Debian: trixie or trixie-backports, not bookworm-backports)"
	adviceTCG     = "run the guest with KVM, or install QEMU 11.1 or newer (Debian: trixie-backports)"
	adviceKVM     = "is KVM to be had by this user (/dev/kvm)? Without it QEMU 11.1 or newer does it under emulation"
)

// report puts the reason into words.
func (t *trial) report(err error, q *process) Report {
	r := Report{Version: t.version.String(), Advice: adviceInstall}
	_, refused := errors.AsType[*qmp.CommandError](err)
	stuck := errors.Is(context.Cause(q.ctx), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case t.version == Version{}:
		r.Version = ""
		r.Missing = "this QEMU does not come up: " + q.says(err)
		if t.kvm {
			r.Advice = adviceKVM
		}
	case errors.Is(err, ErrUnsupported) && refused:
		r.Missing = fmt.Sprintf("QEMU %v is built without COLO (%s)", t.version, reason(err))
		r.Advice = adviceBuild
	case errors.Is(err, ErrUnsupported):
		r.Missing = fmt.Sprintf("QEMU %v never gets into COLO (%s)", t.version, reason(err))
		r.Advice = adviceFixed
	case t.epoch > probeEpochs:
		r.Missing = fmt.Sprintf("QEMU %v does not come back from COLO: %s", t.version, q.says(err))
	case t.armed && stuck && !t.kvm:
		r.Missing = fmt.Sprintf("QEMU %v stops dead in checkpoint %d under emulation (TCG)", t.version, t.epoch)
		r.Advice = adviceTCG
	default:
		r.Missing = fmt.Sprintf("QEMU %v does not run checkpoints here (in checkpoint %d): %s", t.version, t.epoch, q.says(err))
	}
	return r
}

// reason is what an ErrUnsupported has to say beyond that.
func reason(err error) string {
	return strings.TrimPrefix(err.Error(), ErrUnsupported.Error()+": ")
}

// says adds QEMU's own words to an error.
func (p *process) says(err error) string {
	if text := p.stderr.String(); text != "" {
		return fmt.Sprintf("%v; QEMU says: %s", err, text)
	}
	return err.Error()
}

// drain is a Sink that keeps nothing.
type drain struct{}

func (drain) Layout([]byte, []Block) error   { return nil }
func (drain) Page(int, uint64, []byte) error { return nil }
func (drain) Fill(int, uint64, byte) error   { return nil }
