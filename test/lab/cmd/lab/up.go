package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/control"
	"github.com/hamgr/hamgr/test/testbed"
)

const maxHosts = 99 // the client host is number 100

// options of lab up.
type options struct {
	hosts      int
	hamgr      bool
	kind       string
	out        string
	foreground bool
	log        string // where output goes once the lab is up, if it is to go on in the background
}

func (a *app) up() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "up", Short: "Make the hosts, and return when they are ready",
		Long: `up makes the hosts and returns when libvirt answers on each; with --with-hamgr when hamgr
does, too. The first time it builds a Debian root file system for them, about a minute.`,
		Example: "  lab up\n  lab up --hosts 5 --with-hamgr\n  lab up --foreground", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.hosts < 1 || o.hosts > maxHosts {
				return &control.Error{Exit: control.ExitUsage, Message: fmt.Sprintf("%d hosts cannot be", o.hosts), Advice: fmt.Sprintf("from 1 to %d can", maxHosts)}
			}
			if kind := lab.Kind(o.kind); kind != lab.Container && kind != lab.UML {
				return &control.Error{Exit: control.ExitUsage, Message: fmt.Sprintf("there is no kind %q of hosts", o.kind), Advice: "there are container and uml"}
			}
			if os.Geteuid() != 0 {
				return errors.New("lab up needs root: it makes namespaces, mounts and links")
			}
			if o.foreground {
				return a.own(cmd.Context(), o)
			}
			return a.background(cmd.Context(), o)
		},
	}
	f := c.Flags()
	f.IntVar(&o.hosts, "hosts", 3, "how many, beside the one for clients")
	f.BoolVar(&o.hamgr, "with-hamgr", false, "run hamgr on each and show them a guest's image; built from the source tree here")
	f.StringVar(&o.kind, "kind", string(lab.Container), "container: namespaces of this kernel; uml: each a kernel of its own")
	f.StringVar(&o.out, "out", "out/lab", "directory for logs and what is built")
	f.BoolVar(&o.foreground, "foreground", false, "stay until interrupted")
	f.StringVar(&o.log, "log", "", "")
	_ = f.MarkHidden("log")
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{string(lab.Container), string(lab.UML)}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// background starts this program again, in a session of its own, and passes on what it
// says until the lab is up or it has failed.
func (a *app) background(ctx context.Context, o options) error {
	out, err := filepath.Abs(o.out)
	if err != nil {
		return err
	}
	says, said, err := os.Pipe()
	if err != nil {
		return err
	}
	defer says.Close()
	daemon := exec.Command("/proc/self/exe", "up", "--foreground", "--log", filepath.Join(out, "lab.log"), "--run-dir", a.dir, "--out", out,
		"--hosts", fmt.Sprint(o.hosts), "--kind", o.kind, fmt.Sprintf("--with-hamgr=%v", o.hamgr))
	daemon.Args[0] = "lab"
	daemon.Stdout, daemon.Stderr = said, said
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return err
	}
	said.Close()
	stop := context.AfterFunc(ctx, func() { daemon.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if _, err := io.Copy(a.out, says); err != nil {
		return err
	}
	if answer, err := a.client().Do(control.Request{Verb: "status"}); err == nil && answer.Status.Pid == daemon.Process.Pid {
		return a.print(answer.Status, answer.Status.Hosts)
	}
	var exit *exec.ExitError
	if errors.As(daemon.Wait(), &exit) && exit.ExitCode() > 0 {
		return ended(exit.ExitCode())
	}
	return fmt.Errorf("the lab's process was killed (%v)", daemon.ProcessState)
}

// own makes the lab and keeps it until somebody wants it down.
func (a *app) own(ctx context.Context, o options) error {
	server, ctx, err := control.Listen(ctx, a.dir)
	if err != nil {
		return err
	}
	defer server.Close()
	l, logs, err := makeLab(ctx, o)
	if ctx.Err() != nil && err != nil {
		return errors.New("stopped before the lab was up")
	}
	if err != nil {
		return err
	}
	defer l.Down()
	server.Serve(l, logs)
	if o.log == "" {
		fmt.Fprintln(a.out, "the lab is up until you press ^C; in another terminal: lab status, lab exec h1")
	} else if err := moveOutput(o.log); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func makeLab(ctx context.Context, o options) (l *lab.Lab, logs string, err error) {
	if o.hamgr {
		b, err := testbed.Up(ctx, testbed.Options{Hosts: o.hosts, Kind: lab.Kind(o.kind), Out: o.out, Progress: os.Stdout})
		if err != nil {
			return nil, "", err
		}
		if err := ready(ctx, b); err != nil {
			b.Down()
			return nil, "", err
		}
		return b.Lab, filepath.Join(b.Out, "logs"), nil
	}
	p, err := lab.Prepare(ctx, os.Stdout)
	if err != nil {
		return nil, "", err
	}
	logs = filepath.Join(o.out, "logs")
	l, err = lab.Up(ctx, lab.Spec{Root: p.Root, RunDir: logs, Hosts: o.hosts, Kind: lab.Kind(o.kind), Progress: os.Stdout})
	return l, logs, err
}

// ready waits for hamgr and leaves a guest's definition for it.
func ready(ctx context.Context, b *testbed.Bed) error {
	if err := b.WriteDomain(testbed.G1(128)); err != nil {
		return err
	}
	fmt.Println("  waiting for hamgr")
	return b.WaitCluster(ctx)
}

// moveOutput sends what this process says to a file from now on.
func moveOutput(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, fd := range []int{1, 2} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("log to %s: %w", path, err)
		}
	}
	return nil
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the hosts; returns when all is gone", Example: "  lab down", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			did, err := a.client().Down()
			if err == nil {
				fmt.Fprintln(a.out, did)
			}
			return err
		},
	}
}
