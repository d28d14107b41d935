package main

import (
	"context"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// protectionPath is a protection's place in the API; a domain's name may hold anything.
func protectionPath(domain string) string { return "/v1/protections/" + url.PathEscape(domain) }

// onDomain is a command on one protection that sends one request and shows the outcome.
func (a *app) onDomain(name, short, method, suffix string, show func(io.Writer, core.Protection)) *cobra.Command {
	return &cobra.Command{
		Use: name + " <domain>", Short: short, Args: cobra.ExactArgs(1), Example: "  hamgr " + name + " web1",
		ValidArgsFunction: a.completeDomains,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := core.Protection{}
			if err := a.client().Do(cmd.Context(), method, protectionPath(args[0])+suffix, nil, &p); err != nil {
				return err
			}
			if p.Domain == "" {
				p.Domain = args[0]
				return a.print(map[string]string{"domain": p.Domain}, func(w io.Writer) { show(w, p) })
			}
			return a.print(p, func(w io.Writer) { show(w, p) })
		},
	}
}

func (a *app) find(ctx context.Context, name string) (api.ProtectionStatus, error) {
	s, err := a.client().Status(ctx)
	if err != nil {
		return api.ProtectionStatus{}, err
	}
	for _, p := range s.Protections {
		if p.Domain == name {
			return p, nil
		}
	}
	return api.ProtectionStatus{}, api.Failure(api.CodeNotFound, "see hamgr status", "%s is not protected", name)
}

// completeTimeout bounds how long a shell hangs on the tabulator key.
const completeTimeout = time.Second

func (a *app) completeDomains(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.complete(cmd, func(s api.Status) (names []string) {
		for _, p := range s.Protections {
			names = append(names, p.Domain)
		}
		return names
	})
}

func (a *app) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, func(s api.Status) (names []string) {
		for _, n := range s.Nodes {
			names = append(names, n.Name)
		}
		return names
	})
}

func (a *app) completeGroups(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, func(s api.Status) (names []string) {
		for _, p := range s.Protections {
			if p.AntiAffinity != "" && !slices.Contains(names, p.AntiAffinity) {
				names = append(names, p.AntiAffinity)
			}
		}
		return names
	})
}

func (a *app) complete(cmd *cobra.Command, names func(api.Status) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	s, err := a.client().Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names(s), cobra.ShellCompDirectiveNoFileComp
}
