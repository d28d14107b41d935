// Command hamgr keeps virtual machines running when their host dies.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

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
	fmt.Fprintln(errOut, "hamgr:", err)
	var e *api.Error
	if !errors.As(err, &e) {
		if a.started {
			return 1
		}
		return 2
	}
	if e.Advice != "" {
		fmt.Fprintln(errOut, "  "+e.Advice)
	}
	return e.ExitCode()
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
		SilenceUsage: true, SilenceErrors: true, Version: version,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.started = true
			if a.format != "table" && a.format != "json" {
				return &api.Error{Code: "bad-request", Message: fmt.Sprintf("unknown output %q", a.format), Advice: "use -o table or -o json"}
			}
			return nil
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&a.socket, "socket", "/run/hamgr/hamgr.sock", "unix socket of this node's hamgr")
	f.StringVar(&a.url, "url", "", "another node's API instead, such as http://10.0.0.1:7400")
	f.StringVarP(&a.format, "output", "o", "table", "table or json")
	c.AddCommand(a.serve(), a.protect(), a.unprotect(), a.failover(), a.status(), a.node(), a.events(), a.check())
	return c
}

func (a *app) client() *api.Client {
	if a.url != "" {
		return api.NewClient(a.url)
	}
	return api.NewSocketClient(a.socket)
}

// print shows v as JSON, or by table.
func (a *app) print(v any, table func(io.Writer)) error {
	if a.format == "json" {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	table(a.out)
	return nil
}
