package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
)

func (a *app) node() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "The nodes of the cluster", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the nodes", Args: cobra.NoArgs, Example: "  hamgr node list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			nodes, err := a.client().Nodes(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(nodes, func(w io.Writer) {
				var rows [][]string
				for _, n := range nodes {
					rows = append(rows, []string{n.Name, n.Addr, n.State, heard(n), role(n), n.Version})
				}
				table(w, "NODE\tADDRESS\tSTATE\tHEARD\tROLE\tVERSION", rows)
			})
		},
	})
	return c
}

func heard(n api.NodeStatus) string {
	if n.LastHeardMS == nil {
		return ""
	}
	return fmt.Sprintf("%d ms ago", *n.LastHeardMS)
}

func role(n api.NodeStatus) string {
	text := "agent"
	switch {
	case n.Leader:
		text = "leader"
	case n.Manager:
		text = "manager"
	}
	if n.Drained {
		text += ", drained"
	}
	return text
}

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "See whether this node can do what hamgr needs", Args: cobra.NoArgs, Example: "  hamgr check",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var results []api.CheckResult
			if err := a.client().Do(cmd.Context(), http.MethodGet, "/v1/check", nil, &results); err != nil {
				return err
			}
			if err := a.print(results, func(w io.Writer) { checks(w, results) }); err != nil {
				return err
			}
			bad := slices.DeleteFunc(slices.Clone(results), func(r api.CheckResult) bool { return r.OK })
			if len(bad) > 0 {
				return api.Failure(api.CodeFailed, bad[0].Advice, "%d of %d checks failed, the first is %s: %s", len(bad), len(results), bad[0].Name, bad[0].Detail)
			}
			return nil
		},
	}
}

func checks(w io.Writer, results []api.CheckResult) {
	var rows [][]string
	for _, r := range results {
		if r.OK {
			rows = append(rows, []string{r.Name, "ok", r.Detail, ""})
		} else {
			rows = append(rows, []string{r.Name, "FAILED", r.Detail, r.Advice})
		}
	}
	table(w, "CHECK\tRESULT\tDETAIL\tDO", rows)
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
