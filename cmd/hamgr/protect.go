package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

func (a *app) protect() *cobra.Command {
	var q api.ProtectRequest
	var ask probeFlags
	var epoch, limit time.Duration
	var mode, input, loss string
	var wait bool
	c := &cobra.Command{
		Use: "protect <domain>", Short: "Keep a running domain alive when its host dies", Args: cobra.ExactArgs(1),
		Example: "  hamgr protect web1\n  hamgr protect web1 --backup h2 --epoch 10ms\n  hamgr protect web2 --anti-affinity web\n  hamgr protect web1 --probe http://10.0.0.5/ready\n  hamgr protect web1 --wait=false",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			q.Domain, q.Mode, q.OnLoss = args[0], core.Mode(mode), core.LossPolicy(loss)
			if q.EpochMS, err = milliseconds(epoch, cmd.Flags().Changed("epoch")); err != nil {
				return err
			}
			if q.Probe, err = ask.request(cmd); err != nil {
				return err
			}
			copied, err := onOrOff("input", input)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("input") {
				q.Input = &copied
			}
			var p core.Protection
			if err := a.client().Do(cmd.Context(), http.MethodPost, "/v1/protections", q, &p); err != nil {
				return err
			}
			if wait {
				f := follower{app: a, want: p, pinned: q.Backup != "", limit: limit}
				if p, err = f.run(cmd.Context()); err != nil {
					return err
				}
			}
			return a.print(p, func(w io.Writer) { fmt.Fprintf(w, "%s is %s: %s -> %s\n", p.Domain, p.Phase, p.Primary, p.Backup) })
		},
	}
	f := c.Flags()
	f.StringVar(&q.Backup, "backup", "", "the node to hold the replica, and no other (default: chosen)")
	f.DurationVar(&epoch, "epoch", 0, "time between two checkpoints, half of which is added to the latency (default: the node's, 25ms)")
	f.StringVar(&mode, "mode", string(core.Buffer), modeHelp)
	f.StringVar(&input, "input", "on", "copy what goes to the guest to its backup, which delivers it after a failover: on or off")
	f.StringVar(&loss, "on-loss", string(core.OnLossStop), "when no copy of its memory is left: stop, leave it to you, or restart, start it anew elsewhere\n(its disks must be within reach there, and refuse a host that was cut off)")
	f.StringVar(&q.AntiAffinity, "anti-affinity", "", "group of guests of which no two are to be on one host, such as web\n(protection goes before: where no other host can be had they share one, and status says so)")
	ask.add(c)
	f.BoolVar(&wait, "wait", true, "wait until the first checkpoint is committed")
	f.DurationVar(&limit, "timeout", 10*time.Minute, "how long to wait for that; the copy goes on after it")
	_ = c.RegisterFlagCompletionFunc("backup", a.completeNodes)
	_ = c.RegisterFlagCompletionFunc("anti-affinity", a.completeGroups)
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(modes, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("on-loss", cobra.FixedCompletions([]string{string(core.OnLossStop), string(core.OnLossRestart)}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("input", cobra.FixedCompletions([]string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func onOrOff(flag, value string) (bool, error) {
	if value != "on" && value != "off" {
		return false, api.Failure(api.CodeBadRequest, "on is usual", "--%s %s; give on or off", flag, value)
	}
	return value == "on", nil
}

// milliseconds refuses what the API would round: 500us is not the default, which 0 is.
func milliseconds(epoch time.Duration, given bool) (int, error) {
	if given && (epoch < time.Millisecond || epoch%time.Millisecond != 0) {
		return 0, api.Failure(api.CodeBadRequest, "25ms is usual", "an epoch of %s; give whole milliseconds", epoch)
	}
	return int(epoch.Milliseconds()), nil
}

func (a *app) unprotect() *cobra.Command {
	return a.onDomain("unprotect", "Stop protecting a domain; it runs on", http.MethodDelete, "",
		func(w io.Writer, p core.Protection) { fmt.Fprintln(w, p.Domain, "is no longer protected") })
}
