package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/hamgr/hamgr/hamgr/agent"
	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/spf13/cobra"
)

func (a *app) status() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "status", Short: "Show the protections", Args: cobra.NoArgs,
		Example: "  hamgr status\n  hamgr status --watch\n  hamgr status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for {
				var s api.Status
				if err := a.client().Do(cmd.Context(), "GET", "/v1/status", nil, &s); err != nil {
					return err
				}
				if err := a.print(s, func(w io.Writer) { protections(w, s) }); err != nil || !watch {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "again each second, until interrupted")
	return c
}

func table(w io.Writer, head string, rows func(io.Writer)) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	rows(t)
	t.Flush()
}

func protections(w io.Writer, s api.Status) {
	table(w, "DOMAIN\tPRIMARY\tBACKUP\tPHASE\tGEN\tEPOCH\tPAUSE\tDIRTY\tHELD\tFOR", func(w io.Writer) {
		for _, p := range s.Protections {
			pause, dirty, held := "-", "-", "-"
			if x := p.Stats; x != nil && x.Epochs > 0 {
				pause, dirty, held = fmt.Sprintf("%.1fms", x.PauseP50), fmt.Sprint(x.DirtyP50), fmt.Sprint(x.Held)
			}
			backup := p.Backup
			if backup == "" {
				backup = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", p.Domain, p.Primary, backup, p.Phase, p.Generation,
				p.Epoch, pause, dirty, held, time.Since(p.Since).Round(time.Second))
		}
	})
}

func (a *app) node() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "The nodes of the cluster"}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the nodes", Args: cobra.NoArgs, Example: "  hamgr node list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s api.Status
			if err := a.client().Do(cmd.Context(), "GET", "/v1/status", nil, &s); err != nil {
				return err
			}
			return a.print(s.Nodes, func(w io.Writer) {
				table(w, "NODE\tADDRESS\tSTATE\tROLE", func(w io.Writer) {
					for _, n := range s.Nodes {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, n.Addr, n.State, role(n, s.Leader))
					}
				})
			})
		},
	})
	return c
}

func role(n api.NodeStatus, leader string) string {
	switch {
	case n.Name == leader:
		return "leader"
	case n.Manager:
		return "manager"
	}
	return "agent"
}

func (a *app) events() *cobra.Command {
	return &cobra.Command{
		Use: "events", Short: "List the cluster's decisions, with their causes", Args: cobra.NoArgs, Example: "  hamgr events -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var ev []core.Event
			if err := a.client().Do(cmd.Context(), "GET", "/v1/events", nil, &ev); err != nil {
				return err
			}
			return a.print(ev, func(w io.Writer) {
				table(w, "TIME\tDOMAIN\tWHAT\tGEN\tCAUSE", func(w io.Writer) {
					for _, e := range ev {
						fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", e.Time.Format("15:04:05.000"), e.Domain, e.Kind, e.Generation, e.Cause)
					}
				})
			})
		},
	}
}

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "See whether this node can do what hamgr needs", Args: cobra.NoArgs, Example: "  hamgr check",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var rs []agent.CheckResult
			if err := a.client().Do(cmd.Context(), "GET", "/v1/check", nil, &rs); err != nil {
				return err
			}
			bad := 0
			err := a.print(rs, func(w io.Writer) {
				table(w, "CHECK\tRESULT\tDETAIL", func(w io.Writer) {
					for _, r := range rs {
						fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, map[bool]string{true: "ok", false: "FAILED"}[r.OK], r.Detail)
						if !r.OK {
							fmt.Fprintf(w, "\t\t-> %s\n", r.Advice)
						}
					}
				})
			})
			for _, r := range rs {
				if !r.OK {
					bad++
				}
			}
			if err == nil && bad > 0 {
				return &api.Error{Code: "failed", Message: fmt.Sprintf("%d of %d checks failed", bad, len(rs))}
			}
			return err
		},
	}
}
