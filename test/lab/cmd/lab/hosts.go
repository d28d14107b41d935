package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/control"
)

// hostVerbs are the commands that do one thing to one host.
func (a *app) hostVerbs() []*cobra.Command {
	start := a.hostVerb("start", "Boot a host that is off, with empty disks")
	start.RunE = func(_ *cobra.Command, args []string) error {
		if err := a.do(control.Request{Verb: "start", Host: args[0]}); err != nil {
			return err
		}
		_, err := a.client().Do(control.Request{Verb: "ready", Host: args[0]})
		return err
	}
	return []*cobra.Command{
		a.hostVerb("poweroff", "Pull a host's plug: all its processes at once, nothing is flushed, nobody is told"),
		start,
		a.hostVerb("pause", "Stop all of a host's processes, as a host that hangs"),
		a.hostVerb("resume", "Let a paused host go on"),
		a.networkVerb("cut", "Pull a host's cable to a network"),
		a.networkVerb("heal", "Plug the cable in again"),
	}
}

func (a *app) hostVerb(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " HOST", Short: short, Example: "  lab " + verb + " h1", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeHost,
		RunE:              func(_ *cobra.Command, args []string) error { return a.do(control.Request{Verb: verb, Host: args[0]}) },
	}
}

func (a *app) networkVerb(verb, short string) *cobra.Command {
	networks := append(slices.Clone(lab.Networks), control.All)
	return &cobra.Command{
		Use: verb + " HOST mgmt|guest|all", Short: short, Example: "  lab " + verb + " h1 mgmt", Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return networks, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeHost(c, args, typed)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return a.do(control.Request{Verb: verb, Host: args[0], Network: args[1]})
		},
	}
}

// do asks for a verb of a host and shows how the host is then.
func (a *app) do(r control.Request) error {
	answer, err := a.client().Do(r)
	if err != nil {
		return err
	}
	return a.print(answer.Host, []control.HostStatus{*answer.Host})
}

// completeHost gives the names of the hosts for the first argument.
func (a *app) completeHost(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		if answer, err := a.client().Do(control.Request{Verb: "status"}); err == nil {
			for _, h := range answer.Status.Hosts {
				names = append(names, h.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) exec() *cobra.Command {
	c := &cobra.Command{
		Use: "exec HOST [--] [COMMAND [ARG...]]", Short: "Run a command on a host, a shell by default",
		Long: `exec runs a command on a host, with this one's input, output and exit status, and on a
terminal if it is on one. /opt/hamgr/bin is in its PATH.`,
		Example:           "  lab exec h1 -- virsh list --all\n  lab exec h1\n  lab exec client -- ping -c 3 10.78.0.1",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeHost,
		RunE: func(cmd *cobra.Command, args []string) error {
			host, args := args[0], args[1:]
			if len(args) > 0 && args[0] == "--" {
				args = args[1:]
			}
			if len(args) == 0 {
				args = []string{"bash"}
			}
			in, err := a.client().Command(cmd.Context(), host, args...)
			if err == nil {
				err = unix.Exec(in.Path, in.Args, os.Environ())
			}
			a.fail(err)
			return ended(lab.ExitLab)
		},
	}
	c.Flags().SetInterspersed(false) // what follows the host is the command's
	return c
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the hosts", Example: "  lab status\n  lab status -o json", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			answer, err := a.client().Do(control.Request{Verb: "status"})
			if err != nil {
				return err
			}
			if st := answer.Status; st.State != control.Up && a.format == "table" {
				fmt.Fprintln(a.out, "the lab is", st.State)
				return nil
			}
			return a.print(answer.Status, answer.Status.Hosts)
		},
	}
}

// print shows v as JSON, or the hosts as a table.
func (a *app) print(v any, hosts []control.HostStatus) error {
	if a.format == "json" {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tSTATE\tPID\tADDRESS\tMGMT\tGUEST")
	cell := func(s string) string {
		if s == "" || s == "0" {
			return "-"
		}
		return s
	}
	for _, h := range hosts {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", h.Name, h.State, cell(fmt.Sprint(h.Pid)), h.IP, cell(h.Networks["mgmt"]), cell(h.Networks["guest"]))
	}
	return t.Flush()
}
