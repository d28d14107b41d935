package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
)

func (a *app) manager() *cobra.Command {
	c := &cobra.Command{Use: "manager", Short: "The managers, who agree on who may run each guest", Args: cobra.NoArgs,
		Long: `The managers agree by majority on who may run each guest: 3 survive the failure of one of
them, 5 of two. Those of the configuration begin a new cluster; from then on they are
whom these commands have made it, whatever the configuration says.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the managers", Args: cobra.NoArgs, Example: "  hamgr manager list\n  hamgr manager list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := a.client().Managers(cmd.Context())
			if err != nil {
				return err
			}
			return a.printManagers(m, "")
		},
	}, a.managerChange("add", "Make a node a manager, too",
		`Make a node of the cluster a manager, too. To replace one, add the new one first.`,
		"  hamgr manager add h4     # then: hamgr manager remove h1", (*api.Client).AddManager, "is a manager"),
		a.managerChange("remove", "Make a manager an ordinary node",
			`Make a manager an ordinary node: its guests and replicas stay as they are. One that
leads hands over first. A majority of those that are left must be alive.`,
			"  hamgr manager remove h1", (*api.Client).RemoveManager, "is not a manager any more"))
	return c
}

type managerCall = func(c *api.Client, ctx context.Context, node string) (api.Managers, error)

func (a *app) managerChange(verb, short, long, example string, do managerCall, done string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " <node>", Short: short, Long: long, Args: cobra.ExactArgs(1), Example: example, ValidArgsFunction: a.completeManagers(verb == "remove"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := do(a.client(), cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printManagers(m, args[0]+" "+done)
		},
	}
}

// completeManagers is with the nodes that are managers, or those that are not.
func (a *app) completeManagers(managers bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.complete(cmd, func(s api.Status) (names []string) {
			for _, n := range s.Nodes {
				if n.Manager == managers {
					names = append(names, n.Name)
				}
			}
			return names
		})
	}
}

// printManagers lists them, after what was done, and warns.
func (a *app) printManagers(m api.Managers, done string) error {
	err := a.print(m, func(w io.Writer) {
		if done != "" {
			fmt.Fprintln(w, done)
		}
		var rows [][]string
		for _, n := range m.Managers {
			rows = append(rows, []string{n.Name, n.Addr, n.State, heard(n), role(n)})
		}
		table(w, "MANAGER\tADDRESS\tSTATE\tHEARD\tROLE", rows)
	})
	if err == nil && m.Warning != "" {
		fmt.Fprintln(a.errOut, "warning:", m.Warning)
	}
	return err
}
