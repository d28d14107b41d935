// Command lab makes hosts on this machine, with networks between them, and lets one use
// them, cut them off and pull their plugs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/control"
)

func main() {
	lab.Init()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const long = `lab makes hosts on this machine: h1, h2, ..., and one for clients. Each is a set of
namespaces with a Debian of its own and libvirtd, on a management network (mgmt,
10.77.0.0/24) and one for guests (guest, 10.78.0.0/24). A process in the background owns
them; however it ends, the kernel takes all of them away with it.

Exit status: 0 done, 1 failed, 2 usage, 3 no such host, 4 not in its state, 5 no lab is up;
of exec: the command's own, or 125 if it was not run.`

const examples = `  lab up --with-hamgr
  lab exec h1 -- virsh define /opt/hamgr/guest/g1.xml
  lab exec h1 -- virsh start g1
  lab exec h1 -- hamgr protect g1
  lab poweroff h1
  lab exec h2 -- hamgr status
  lab down`

// app is what the commands share.
type app struct {
	out, errOut io.Writer
	dir         string
	format      string
	understood  bool // the command line
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	a := &app{out: out, errOut: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	return a.fail(err)
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use: "lab", Short: "Hosts on this machine, for tests and for trying things", Long: long, Example: examples,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.understood = true
			if a.format != "table" && a.format != "json" {
				return &control.Error{Exit: control.ExitUsage, Message: fmt.Sprintf("unknown output %q", a.format), Advice: "use -o table or -o json"}
			}
			return nil
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&a.dir, "run-dir", control.DefaultDir(), "where the lab answers; $HAMGR_LAB_RUN is the default")
	f.StringVarP(&a.format, "output", "o", "table", "table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	c.AddCommand(a.up(), a.down(), a.status(), a.exec())
	c.AddCommand(a.hostVerbs()...)
	return c
}

func (a *app) client() control.Client { return control.Client{Dir: a.dir} }

// ended is a process that has said itself what was wrong.
type ended int

func (e ended) Error() string { return fmt.Sprint("exit status ", int(e)) }

// fail prints an error on one line, and what to do about it on another.
func (a *app) fail(err error) int {
	var said ended
	if errors.As(err, &said) {
		return int(said)
	}
	var e *control.Error
	known := errors.As(err, &e)
	fmt.Fprintln(a.errOut, "lab:", strings.ReplaceAll(err.Error(), "\n", "; "))
	switch {
	case known && e.Advice != "":
		fmt.Fprintln(a.errOut, "  "+e.Advice)
	case !a.understood:
		fmt.Fprintln(a.errOut, "  see lab --help")
	}
	switch {
	case known:
		return e.Exit
	case a.understood:
		return control.ExitFailed
	}
	return control.ExitUsage
}
