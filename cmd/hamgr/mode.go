package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

const modeHelp = "buffer: output waits for its checkpoint; checkpoint: it does not, and a failover may roll back what was seen"

var modes = []string{string(core.Buffer), string(core.Checkpoint)}

func (a *app) mode() *cobra.Command {
	var limit time.Duration
	c := &cobra.Command{
		Use: "mode <domain> <buffer|checkpoint>", Short: "Change the mode of a protection while the domain runs", Args: cobra.ExactArgs(2),
		Long:    modeHelp + ".",
		Example: "  hamgr mode web1 checkpoint\n  hamgr mode web1 buffer",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return modes, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeDomains(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			want := core.Mode(args[1])
			var p core.Protection
			if err := a.client().Do(cmd.Context(), http.MethodPatch, protectionPath(args[0]), api.ChangeRequest{Mode: want}, &p); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			p, err := a.changed(ctx, p, want)
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) { fmt.Fprintf(w, "%s is in mode %s\n", p.Domain, p.Mode) })
		},
	}
	c.Flags().DurationVar(&limit, "timeout", 10*time.Second, "how long to wait for the primary to change")
	return c
}

// changed waits until the primary has put the mode in force.
func (a *app) changed(ctx context.Context, p core.Protection, want core.Mode) (core.Protection, error) {
	for p.Mode != want || p.Wanted != "" {
		select {
		case <-ctx.Done():
			return p, api.Failure(api.CodeFailed, "see hamgr events, and the log of hamgr on "+p.Primary,
				"%s is still in mode %s: %s has not changed it yet", p.Domain, p.Mode, p.Primary)
		case <-time.After(followPoll):
		}
		now, err := a.find(ctx, p.Domain)
		if err != nil {
			return p, err
		}
		p = now.Protection
		if p.Wanted == "" && p.Mode != want {
			return p, api.Failure(api.CodeRefused, "see hamgr events", "%s stays in mode %s: %s could not change it", p.Domain, p.Mode, p.Primary)
		}
	}
	return p, nil
}
