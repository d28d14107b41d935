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

func (a *app) failover() *cobra.Command {
	var q api.FailoverRequest
	var limit time.Duration
	c := &cobra.Command{
		Use: "failover <domain>", Short: "Move a domain to its backup", Args: cobra.ExactArgs(1),
		Long: `Move a domain to its backup. Its primary hands it over at a checkpoint: no packet and no
state is lost. With --now the backup goes on from the last checkpoint, whatever the
primary does: for one that does not answer.`,
		Example: "  hamgr failover web1\n  hamgr failover web1 --now", ValidArgsFunction: a.completeDomains,
		RunE: func(cmd *cobra.Command, args []string) error {
			var p core.Protection
			if err := a.client().Do(cmd.Context(), http.MethodPost, protectionPath(args[0])+"/failover", q, &p); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			p, err := a.moved(ctx, p)
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) {
				fmt.Fprintf(w, "%s runs on %s (generation %d)\n", p.Domain, p.Primary, p.Generation)
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&q.Now, "now", false, "from the last checkpoint, without its primary's help")
	f.DurationVar(&limit, "timeout", 30*time.Second, "how long to wait until it runs there")
	return c
}

// moved waits until the domain runs elsewhere.
func (a *app) moved(ctx context.Context, p core.Protection) (core.Protection, error) {
	from := p.Primary
	if !p.Moving { // decided already: p is about the new owner
		from = ""
	}
	for {
		switch {
		case p.Phase == core.Lost:
			return p, api.Failure(api.CodeFailed, "see hamgr events", "%s was lost: %s", p.Domain, p.Reason)
		case p.Primary != from && p.Phase != core.Recovering:
			return p, nil
		case p.Primary == from && !p.Moving:
			return p, api.Failure(api.CodeRefused, "see hamgr events; --now does not ask it", "%s stays on %s, which could not hand it over", p.Domain, from)
		}
		select {
		case <-ctx.Done():
			return p, api.Failure(api.CodeFailed, "see hamgr events", "%s is not on another host yet: %s on %s", p.Domain, p.Phase, p.Primary)
		case <-time.After(followPoll):
		}
		now, err := a.find(ctx, p.Domain)
		switch {
		case err == nil:
			p = now.Protection
		case ctx.Err() == nil:
			return p, err
		}
	}
}
