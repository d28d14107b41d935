package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

func (a *app) drain() *cobra.Command {
	var limit time.Duration
	c := &cobra.Command{
		Use: "drain <node>", Short: "Move all guests and replicas away from a node", Args: cobra.ExactArgs(1),
		Long: `Move all protected guests away from a node, each handed over at a checkpoint, and have the
replicas it holds made elsewhere. It gets nothing new until hamgr undrain. The command
waits until the node is empty; what is left goes on moving when it is interrupted.`,
		Example: "  hamgr drain h1\n  hamgr undrain h1", ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.setDrained(cmd.Context(), args[0], "drain"); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			if err := a.emptied(ctx, args[0]); err != nil {
				return err
			}
			return a.print(map[string]string{"node": args[0], "state": "drained"}, func(w io.Writer) {
				fmt.Fprintln(w, args[0], "has no protected guest and no replica")
			})
		},
	}
	c.Flags().DurationVar(&limit, "timeout", 10*time.Minute, "how long to wait until the node is empty")
	return c
}

func (a *app) undrain() *cobra.Command {
	return &cobra.Command{
		Use: "undrain <node>", Short: "Use a drained node again", Args: cobra.ExactArgs(1),
		Example: "  hamgr undrain h1", ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.setDrained(cmd.Context(), args[0], "undrain"); err != nil {
				return err
			}
			return a.print(map[string]string{"node": args[0], "state": "in use"}, func(w io.Writer) {
				fmt.Fprintln(w, args[0], "may be used again")
			})
		},
	}
}

func (a *app) setDrained(ctx context.Context, node, verb string) error {
	return a.client().Do(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/"+verb, nil, nil)
}

// emptied waits, and says what is left when that changes.
func (a *app) emptied(ctx context.Context, node string) error {
	said := ""
	for {
		s, err := a.client().Status(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		var left []string
		for _, p := range s.Protections {
			if p.Primary == node || p.Backup == node {
				left = append(left, leftover(p, node))
			}
		}
		if err == nil && len(left) == 0 {
			return nil
		}
		if text := strings.Join(left, ", "); err == nil && text != said {
			said = text
			fmt.Fprintf(a.errOut, "%s: %s\n", node, text)
		}
		select {
		case <-ctx.Done():
			return api.Failure(api.CodeFailed, "see hamgr explain of each; hamgr undrain "+node+" takes it back", "%s is not empty yet: %s", node, said)
		case <-time.After(4 * followPoll):
		}
	}
}

func leftover(p api.ProtectionStatus, node string) string {
	switch {
	case p.Backup == node:
		return "replica of " + p.Domain
	case p.Moving:
		return p.Domain + " is moving"
	case p.Phase == core.Protected:
		return p.Domain + " is to move"
	}
	return fmt.Sprintf("%s is %s", p.Domain, p.Phase)
}
