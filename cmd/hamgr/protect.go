package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/spf13/cobra"
)

func (a *app) protect() *cobra.Command {
	var q api.ProtectRequest
	var epoch time.Duration
	var mode string
	var wait bool
	c := &cobra.Command{
		Use: "protect <domain>", Short: "Keep a running domain alive when its host dies", Args: cobra.ExactArgs(1),
		Example: "  hamgr protect web1\n  hamgr protect web1 --backup h2 --epoch 10ms",
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Domain, q.EpochMS, q.Mode = args[0], int(epoch.Milliseconds()), core.Mode(mode)
			var p core.Protection
			if err := a.client().Do(cmd.Context(), "POST", "/v1/protections", q, &p); err != nil {
				return err
			}
			if wait {
				var err error
				if p, err = a.follow(cmd.Context(), p); err != nil {
					return err
				}
			}
			return a.print(p, func(w io.Writer) { fmt.Fprintf(w, "%s is %s: %s -> %s\n", p.Domain, p.Phase, p.Primary, p.Backup) })
		},
	}
	c.Flags().StringVar(&q.Backup, "backup", "", "the node to hold the replica (default: chosen)")
	c.Flags().DurationVar(&epoch, "epoch", 0, "time between two checkpoints, half of it is added to the latency (default 25ms)")
	c.Flags().StringVar(&mode, "mode", "buffer", "buffer: output waits for its checkpoint")
	c.Flags().BoolVar(&wait, "wait", true, "wait until the first checkpoint is committed")
	return c
}

// follow shows the first copy's progress. A first copy that fails ends the protection:
// the operator gets the cause, and nothing half-done stays.
func (a *app) follow(ctx context.Context, p core.Protection) (core.Protection, error) {
	last := -1
	lag := time.Now().Add(2 * time.Second) // this node may learn of the leader's word a moment later
	for {
		st, err := a.find(ctx, p.Domain)
		if err == nil {
			lag = time.Time{}
		} else if time.Now().After(lag) {
			return p, err
		} else {
			st.Protection = p
		}
		switch {
		case st.Phase == core.Protected:
			return st.Protection, nil
		case st.Phase == core.Syncing && st.Generation == p.Generation:
			if st.Stats != nil && st.Stats.SyncPercent != last {
				last = st.Stats.SyncPercent
				fmt.Fprintf(a.errOut, "%s: copying memory to %s, %d %%\n", p.Domain, p.Backup, last)
			}
		default:
			cause := st.Reason
			if r := st.Refused[p.Backup]; r != "" {
				cause = r
			}
			if err := a.client().Do(ctx, "DELETE", "/v1/protections/"+p.Domain, nil, nil); err != nil {
				return p, err
			}
			return p, &api.Error{Code: "refused", Message: fmt.Sprintf("%s could not be protected: %s", p.Domain, cause),
				Advice: "it runs on as before, unprotected; see hamgr check on " + p.Backup}
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (a *app) find(ctx context.Context, name string) (api.ProtectionStatus, error) {
	var s api.Status
	if err := a.client().Do(ctx, "GET", "/v1/status", nil, &s); err != nil {
		return api.ProtectionStatus{}, err
	}
	for _, p := range s.Protections {
		if p.Domain == name {
			return p, nil
		}
	}
	return api.ProtectionStatus{}, &api.Error{Code: "not-found", Message: name + " is not protected", Advice: "see hamgr status"}
}

func (a *app) unprotect() *cobra.Command {
	return a.onDomain("unprotect <domain>", "Stop protecting a domain; it runs on", "DELETE", "", "is no longer protected")
}

func (a *app) failover() *cobra.Command {
	return a.onDomain("failover <domain>", "Move a domain to its backup now, from the last checkpoint", "POST", "/failover", "moves to its backup")
}

func (a *app) onDomain(use, short, method, path, done string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), Example: "  hamgr " + use[:len(use)-len("<domain>")] + "web1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client().Do(cmd.Context(), method, "/v1/protections/"+args[0]+path, nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"domain": args[0]}, func(w io.Writer) { fmt.Fprintln(w, args[0], done) })
		},
	}
}
