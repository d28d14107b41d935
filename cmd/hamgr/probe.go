package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
)

// probeFlags are those of protect that are about the guest's service.
type probeFlags struct {
	url               string
	interval, timeout time.Duration
	failures          int
}

func (p *probeFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.url, "probe", "", "ask the guest's service from its host, tcp://10.0.0.5:80 or http://10.0.0.5/ready, and raise an alarm\nwhen it does not answer; nothing else is done, as the replica is a copy of the guest (default: do not ask)")
	f.DurationVar(&p.interval, "probe-interval", 2*time.Second, "time between two probes")
	f.DurationVar(&p.timeout, "probe-timeout", 0, "how long a probe waits for the answer (default: 1s, or eight epochs if that is more)")
	f.IntVar(&p.failures, "probe-failures", 3, "how many probes fail in a row before the alarm")
	_ = c.RegisterFlagCompletionFunc("probe", cobra.FixedCompletions([]string{"tcp://", "http://"}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

// request is nil where no probe was asked for.
func (p *probeFlags) request(c *cobra.Command) (*api.ProbeRequest, error) {
	if p.url == "" {
		for _, flag := range []string{"probe-interval", "probe-timeout", "probe-failures"} {
			if c.Flags().Changed(flag) {
				return nil, api.Failure(api.CodeBadRequest, "say what to ask, with --probe", "--%s without --probe", flag)
			}
		}
		return nil, nil
	}
	if p.interval%time.Millisecond != 0 || p.timeout%time.Millisecond != 0 || p.interval <= 0 || p.failures <= 0 {
		return nil, api.Failure(api.CodeBadRequest, "2s, 1s and 3 are usual", "a probe every %v that waits for %v and counts after %d failures; give whole milliseconds, and more than none", p.interval, p.timeout, p.failures)
	}
	return &api.ProbeRequest{URL: p.url, IntervalMS: int(p.interval.Milliseconds()), TimeoutMS: int(p.timeout.Milliseconds()), Failures: p.failures}, nil
}
