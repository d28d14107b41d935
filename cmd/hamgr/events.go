package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	// pollWait is how long one request of --follow stays open.
	pollWait = 20 * time.Second
	// eventRow is for a list that grows: columns of fixed width.
	eventRow = "%-12s  %-12s  %-13s  %4s  %s\n"
)

func (a *app) events() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use: "events", Short: "List the cluster's decisions, with their causes", Args: cobra.NoArgs,
		Example: "  hamgr events\n  hamgr events --follow\n  hamgr events -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.client().Events(cmd.Context(), 0, 0)
			if err != nil {
				return err
			}
			if follow {
				return a.followEvents(cmd.Context(), list)
			}
			return a.print(list, func(w io.Writer) { eventHead(w); eventRows(w, list) })
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "and those to come, until interrupted; with -o json one a line")
	return c
}

func (a *app) followEvents(ctx context.Context, list []core.Event) error {
	since := uint64(0)
	if a.format == "table" {
		eventHead(a.out)
	}
	for {
		if err := a.streamEvents(list); err != nil {
			return err
		}
		if len(list) > 0 {
			since = list[len(list)-1].Index
		}
		var err error
		if list, err = a.client().Events(ctx, since, pollWait); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (a *app) streamEvents(list []core.Event) error {
	if a.format == "table" {
		eventRows(a.out, list)
		return nil
	}
	for _, e := range list {
		if err := json.NewEncoder(a.out).Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func eventHead(w io.Writer) {
	fmt.Fprintf(w, eventRow, "TIME", "DOMAIN", "WHAT", "GEN", "WHERE AND WHY")
}

func eventRows(w io.Writer, list []core.Event) {
	for _, e := range list {
		generation := "-"
		if e.Generation > 0 {
			generation = fmt.Sprint(e.Generation)
		}
		domain := e.Domain
		if domain == "" {
			domain = "-"
		}
		fmt.Fprintf(w, eventRow, e.Time.Local().Format("15:04:05.000"), domain, e.Kind, generation, where(e))
	}
}

func where(e core.Event) string {
	text := e.Node
	if e.Target != "" {
		text += " -> " + e.Target
	}
	if e.Cause != "" {
		text += ": " + strings.ReplaceAll(e.Cause, "\n", " ")
	}
	return text
}
