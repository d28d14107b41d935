// Command hamgr keeps virtual machines running when their host dies.
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

	"github.com/hamgr/hamgr/hamgr/api"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes: 0 done, 1 failed or refused, 2 usage, 3 not found, 4 conflict, 5 unreachable.
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

// fail prints an error on one line, and what to do about it on another.
func (a *app) fail(err error) int {
	var e *api.Error
	coded := errors.As(err, &e)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(a.errOut, "hamgr: interrupted")
		return 1
	default:
		fmt.Fprintln(a.errOut, "hamgr:", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	switch {
	case coded && e.Advice != "":
		fmt.Fprintln(a.errOut, "  "+e.Advice)
	case !a.started:
		fmt.Fprintln(a.errOut, "  see hamgr --help")
	}
	switch {
	case coded:
		return e.ExitCode()
	case a.started:
		return 1
	}
	return 2
}

// app is what the commands share.
type app struct {
	out, errOut io.Writer
	socket, url string
	format      string
	started     bool // the command line was understood
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use: "hamgr", Short: "Keep virtual machines running when their host dies",
		Long: `hamgr keeps a KVM virtual machine running, with its memory and its open connections,
when the host under it dies. hamgr serve runs on each host; the other commands talk to
the one on this host, whichever it is.

Exit codes: 0 done, 1 failed or refused, 2 usage, 3 not found, 4 conflict, 5 unreachable.`,
		Example:      "  hamgr check\n  hamgr protect web1\n  hamgr status --watch",
		SilenceUsage: true, SilenceErrors: true, Version: version(),
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.started = true
			if a.format != "table" && a.format != "json" {
				return api.Failure(api.CodeBadRequest, "use -o table or -o json", "unknown output %q", a.format)
			}
			return nil
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&a.socket, "socket", "/run/hamgr/hamgr.sock", "unix socket of this node's hamgr")
	f.StringVar(&a.url, "url", "", "another node's API instead, such as http://10.0.0.1:7400")
	f.StringVarP(&a.format, "output", "o", "table", "table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	c.AddCommand(a.serve(), a.protect(), a.unprotect(), a.failover(), a.drain(), a.undrain(), a.mode(), a.status(), a.explain(), a.node(), a.manager(), a.events(), a.state(), a.check(), a.version())
	return c
}

func (a *app) client() *api.Client {
	if a.url != "" {
		return api.NewClient(a.url)
	}
	return api.NewSocketClient(a.socket)
}
