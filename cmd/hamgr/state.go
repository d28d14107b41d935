package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/config"
	"github.com/hamgr/hamgr/hamgr/saved"
	"github.com/hamgr/hamgr/hamgr/serve"
)

func (a *app) state() *cobra.Command {
	c := &cobra.Command{Use: "state", Short: "Save what the cluster has agreed on, and restore it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(a.saveState(), a.restoreState())
	return c
}

func (a *app) saveState() *cobra.Command {
	var dir, path string
	c := &cobra.Command{
		Use: "save <file>", Short: "Save the agreed state", Args: cobra.ExactArgs(1),
		Long: `Save what the cluster has agreed on, as it is at this moment, in a file that only its owner
may read: it has the definitions of guests that are started anew when they are lost, with
their secrets. The file - is the standard output.

With --data it comes from the directory of a hamgr that is stopped: when most managers are
lost, the one that is left cannot agree on anything any more, but knows what is to be
restored.`,
		Example: "  hamgr state save /var/backups/hamgr.json\n  hamgr state save - | gpg -e -r ops > hamgr.json.gpg\n  hamgr state save --data /var/lib/hamgr hamgr.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			get := a.agreed
			if dir != "" {
				get = func(context.Context) (saved.State, error) { return left(dir, path) }
			}
			s, err := get(cmd.Context())
			if err != nil {
				return err
			}
			data, err := saved.Encode(s)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err = a.out.Write(data)
				return err
			}
			if err := saved.Write(args[0], data); err != nil {
				return err
			}
			said := map[string]any{"file": args[0], "cluster": s.Cluster, "index": s.Index, "protections": len(s.State.Protections)}
			return a.print(said, func(w io.Writer) {
				fmt.Fprintf(w, "%s has the state of %s at index %d, with %d protections\n", args[0], s.Cluster, s.Index, len(s.State.Protections))
			})
		},
	}
	c.Flags().StringVar(&dir, "data", "", "data directory of the hamgr that is stopped on this host, instead of asking one that runs")
	c.Flags().StringVar(&path, "config", config.DefaultPath, "its configuration file, with --data")
	return c
}

// agreed asks the leader.
func (a *app) agreed(ctx context.Context) (saved.State, error) {
	var data json.RawMessage
	if err := a.client().Do(ctx, http.MethodGet, "/v1/state", nil, &data); err != nil {
		return saved.State{}, err
	}
	s, err := saved.Decode(data)
	if err != nil {
		return s, api.Failure(api.CodeFailed, "is that hamgr, and of the same version?", "the answer is %v", err)
	}
	return s, nil
}

// left is what a stopped node of this host has left.
func left(dir, path string) (saved.State, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return saved.State{}, err
	}
	st, err := serve.Left(dir)
	return saved.State{Cluster: cfg.Cluster, Index: st.Index, Time: time.Now().UTC(), State: st}, err
}

func (a *app) restoreState() *cobra.Command {
	var q api.RestoreRequest
	c := &cobra.Command{
		Use: "restore <file>", Short: "Restore protections from a saved state", Args: cobra.ExactArgs(1),
		Long: `Restore protections from a saved state, when the disks of the managers are lost. Stop hamgr on
all nodes, remove data_dir/raft there, start it again: guests run on meanwhile, and what
was protected waits with its output. Then restore; the file may be old. It says what was to be
protected; where each guest is now, the hosts say. A guest comes back if it runs and no
other host can have been given it since; any other is left as it is and named.
A node that is switched off has to be named. The file - is the standard input.`,
		Example: "  hamgr state restore /var/backups/hamgr.json\n  hamgr state restore hamgr.json --without h3",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if q.File, err = readState(cmd.InOrStdin(), args[0]); err != nil {
				return err
			}
			var r api.RestoreResult
			if err := a.client().Do(cmd.Context(), http.MethodPost, "/v1/state/restore", q, &r); err != nil {
				return err
			}
			if err := a.print(r, func(w io.Writer) { restored(w, r) }); err != nil {
				return err
			}
			return notAll(r)
		},
	}
	c.Flags().StringSliceVar(&q.Without, "without", nil, "nodes that are switched off, with commas; guests that ran there are not restored")
	_ = c.RegisterFlagCompletionFunc("without", a.completeNodes)
	return c
}

// readState says what is wrong with a file before anybody is asked.
func readState(stdin io.Reader, path string) ([]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, saved.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := saved.Decode(data); err != nil {
		return nil, api.Failure(api.CodeRefused, "take another file of hamgr state save", "%s is %v", path, err)
	}
	return data, nil
}

func restored(w io.Writer, r api.RestoreResult) {
	for _, p := range r.Restored {
		fmt.Fprintf(w, "%s is on %s, and gets a backup next\n", p.Domain, p.Primary)
	}
	for _, l := range r.Left {
		fmt.Fprintf(w, "%s is not restored: %s\n", l.Domain, l.Why)
	}
}

func notAll(r api.RestoreResult) error {
	if len(r.Left) == 0 {
		return nil
	}
	var names []string
	for _, l := range r.Left {
		names = append(names, l.Domain)
	}
	return api.Failure(api.CodeFailed, "see to the copies of each, and hamgr protect it", "%d of %d guests were not restored: %s",
		len(names), len(names)+len(r.Restored), strings.Join(names, ", "))
}
