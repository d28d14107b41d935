package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/core"
)

func (a *app) explain() *cobra.Command {
	return &cobra.Command{
		Use: "explain <domain>", Short: "Say why a protection is as it is, and what each host's death would do", Args: cobra.ExactArgs(1),
		Example: "  hamgr explain web1\n  hamgr explain web1 -o json", ValidArgsFunction: a.completeDomains,
		RunE: func(cmd *cobra.Command, args []string) error {
			var e core.Explanation
			if err := a.client().Do(cmd.Context(), http.MethodGet, protectionPath(args[0])+"/explain", nil, &e); err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) { explanation(w, e) })
		},
	}
}

func explanation(w io.Writer, e core.Explanation) {
	fmt.Fprintf(w, "%s is %s, for %s", e.Domain, e.Phase, since(e.Since))
	if e.Because != "" {
		fmt.Fprintf(w, ", because: %s", e.Because)
	}
	fmt.Fprintf(w, "\nnext: %s\n\nshould a host die now:\n", e.Next)
	for _, d := range e.IfDead {
		fmt.Fprintf(w, "  %-12s  %s\n", d.Node, d.Outcome)
	}
	fmt.Fprintln(w, "\nhow it came to this:")
	for _, x := range e.Events {
		fmt.Fprintf(w, "  %s  %-13s  %s\n", x.Time.Local().Format("15:04:05.000"), x.Kind, where(x))
	}
}
