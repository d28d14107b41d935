package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

const watchInterval = time.Second

func (a *app) status() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "status [domain]", Short: "Show the protections, or one in full", Args: cobra.MaximumNArgs(1),
		Example:           "  hamgr status\n  hamgr status web1\n  hamgr status --watch\n  hamgr status -o json",
		ValidArgsFunction: a.completeDomains,
		RunE: func(cmd *cobra.Command, args []string) error {
			for {
				if err := a.showStatus(cmd, args, watch); err != nil || !watch {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(watchInterval):
				}
			}
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "again each second, until interrupted")
	return c
}

func (a *app) showStatus(cmd *cobra.Command, args []string, watch bool) error {
	s, err := a.client().Status(cmd.Context())
	if err != nil {
		return err
	}
	var one *api.ProtectionStatus
	if len(args) == 1 {
		i := slices.IndexFunc(s.Protections, func(p api.ProtectionStatus) bool { return p.Domain == args[0] })
		if i < 0 {
			return api.Failure(api.CodeNotFound, "see hamgr status", "%s is not protected", args[0])
		}
		one = &s.Protections[i]
	}
	if watch && a.format == "table" && terminal(a.out) {
		fmt.Fprint(a.out, "\x1b[H\x1b[2J") // home, clear: ECMA-48 CUP and ED
	}
	if one != nil {
		return a.print(one, func(w io.Writer) { inFull(w, *one) })
	}
	return a.print(s, func(w io.Writer) { protections(w, s) })
}

// protections is the table, and below it what needs a word of explanation.
func protections(w io.Writer, s api.Status) {
	if s.Leader == "" {
		fmt.Fprintf(w, "no manager leads: this is what %s knew last\n", s.Node)
	}
	if len(s.Protections) == 0 {
		fmt.Fprintln(w, "nothing is protected; hamgr protect <domain> begins")
		return
	}
	var rows [][]string
	var notes []string
	for _, p := range s.Protections {
		pause, dirty, held := "", "", ""
		if x := p.Stats; x != nil && x.Epochs > 0 {
			pause, dirty, held = fmt.Sprintf("%.1fms", x.PauseP50), fmt.Sprint(x.DirtyP50), fmt.Sprint(x.Held)
		}
		rows = append(rows, []string{p.Domain, p.Primary, p.Backup, phase(p), fmt.Sprint(p.Generation), p.Epoch.String(),
			pause, dirty, held, since(p.Since)})
		for _, but := range []string{p.Degraded, p.ProbeFailed, p.Together} {
			if but != "" {
				notes = append(notes, fmt.Sprintf("%s is %s, but: %s", p.Domain, p.Phase, but))
			}
		}
		if p.Phase != core.Protected && p.Reason != "" {
			notes = append(notes, fmt.Sprintf("%s is %s: %s", p.Domain, p.Phase, p.Reason))
		}
	}
	table(w, "DOMAIN\tPRIMARY\tBACKUP\tPHASE\tGEN\tEPOCH\tPAUSE\tDIRTY\tHELD\tFOR", rows)
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
}

func phase(p api.ProtectionStatus) string {
	if p.Phase == core.Syncing && p.Stats != nil && p.Stats.SyncPercent > 0 {
		return fmt.Sprintf("%s %d%%", p.Phase, p.Stats.SyncPercent)
	}
	return string(p.Phase)
}

// since is clipped at zero: the time is another host's.
func since(t time.Time) string { return max(0, time.Since(t)).Round(time.Second).String() }

func inFull(w io.Writer, p api.ProtectionStatus) {
	rows := [][]string{
		{"UUID", p.UUID}, {"primary", p.Primary}, {"backup", p.Backup}, {"phase", phase(p) + ", for " + since(p.Since)},
		{"because", p.Reason}, {"generation", fmt.Sprint(p.Generation)}, {"mode", mode(p) + ", an epoch is " + p.Epoch.String()},
		{"memory", fmt.Sprintf("%d MiB", p.Memory>>20)},
	}
	if p.Pinned != "" {
		rows = append(rows, []string{"only backup", p.Pinned})
	}
	if p.Probe.URL != "" {
		rows = append(rows, []string{"probe", probed(p)})
	}
	if p.AntiAffinity != "" {
		rows = append(rows, []string{"anti-affinity", group(p)})
	}
	for _, n := range sorted(p.Refused) {
		rows = append(rows, []string{"refused by", n + ": " + p.Refused[n]})
	}
	if x := p.Stats; x == nil {
		rows = append(rows, []string{"measured", "nothing: " + p.Primary + " did not answer, or has only begun"})
	} else {
		rows = append(rows, measured(*x)...)
	}
	table(w, "domain\t"+p.Domain, rows)
}

func group(p api.ProtectionStatus) string {
	if p.Together != "" {
		return fmt.Sprintf("group %s, but: %s", p.AntiAffinity, p.Together)
	}
	return "group " + p.AntiAffinity
}

func probed(p api.ProtectionStatus) string {
	text := fmt.Sprintf("%s, every %s", p.Probe.URL, p.Probe.Interval)
	if p.ProbeFailed != "" {
		return text + ": " + p.ProbeFailed
	}
	return text + ": answers"
}

func mode(p api.ProtectionStatus) string {
	if p.Wanted != "" {
		return fmt.Sprintf("%s, to be %s", p.Mode, p.Wanted)
	}
	return string(p.Mode)
}

func measured(x api.Stats) [][]string {
	zero := 0.0
	if x.Pages > 0 {
		zero = 100 * float64(x.ZeroPages) / float64(x.Pages)
	}
	return [][]string{
		{"epochs", fmt.Sprint(x.Epochs)},
		{"pause", fmt.Sprintf("%.1f ms, 99 %%: %.1f ms", x.PauseP50, x.PauseP99)},
		{"commit", fmt.Sprintf("%.1f ms, 99 %%: %.1f ms", x.CommitP50, x.CommitP99)},
		{"dirty pages", fmt.Sprintf("%d an epoch, %.0f %% of all were zero", x.DirtyP50, zero)},
		{"sent", fmt.Sprintf("%.1f MiB", float64(x.BytesSent)/(1<<20))},
		{"output", output(x)},
		{"input", input(x)},
	}
}

func output(x api.Stats) string {
	switch {
	case x.Backend != "":
		return fmt.Sprintf("%s: %d packets held, %d released, %d dropped", x.Backend, x.Held, x.Released, x.Dropped)
	case x.Held > 0:
		return fmt.Sprintf("%d packets wait for this host's lease, %d dropped without one", x.Held, x.Dropped)
	case x.Leased:
		return fmt.Sprintf("not held, by this host's lease; %d packets dropped without one", x.Dropped)
	}
	return fmt.Sprintf("not held; %d packets dropped without a lease", x.Dropped)
}

func input(x api.Stats) string {
	switch {
	case x.InputProblem != "":
		return x.InputProblem
	case x.InputCopied == 0:
		return "nothing copied to the backup"
	}
	text := fmt.Sprintf("%d packets copied to the backup, %d kept, %d lost", x.InputCopied, x.InputKept, x.InputDropped+x.InputMissing)
	if x.InputLapse != "" {
		text += "; none should QEMU die and its host live: " + x.InputLapse
	}
	if given := x.InputReplayed + x.InputHeard; given > 0 {
		text += fmt.Sprintf("; %d delivered after the last failover", given)
	}
	return text
}
