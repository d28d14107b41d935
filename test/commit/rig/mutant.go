package rig

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/hamgr/hamgr/internal/mutant"
)

// mutable is how a host runs hamgr: as what /run/mutant says, if it is there.
func mutable(args []string) []string {
	return append([]string{"sh", "-c", `HAMGR_MUTANT="$(cat /run/mutant 2>/dev/null)" exec "$0" "$@"`}, args...)
}

// Mutate restarts hamgr everywhere so that it makes a mistake, or none, and waits until
// the guest is protected again. The rig must be one with Mutants.
func (r *Rig) Mutate(ctx context.Context, m mutant.Mistake) error {
	p, err := r.Protected(ctx, 0, time.Minute)
	if err != nil {
		return err
	}
	for _, h := range r.Nodes() {
		if _, err := r.Host(h).Exec(ctx, "sh", "-c", fmt.Sprintf("echo %s > /run/mutant; pkill -KILL -x hamgr", m)); err != nil {
			return err
		}
	}
	_, err = r.Protected(ctx, p.Generation, time.Minute)
	return err
}

// KillBackupInMidCommit has the backup's agent stand still, so that the primary has sent
// a checkpoint and waits for its commit, and then kills it.
func (r *Rig) KillBackupInMidCommit(ctx context.Context, backup string) error {
	_, err := r.Host(backup).Exec(ctx, "sh", "-c", "pkill -STOP -x hamgr; sleep 0.06; pkill -KILL -x hamgr")
	return err
}

// Dirty has the guest write to its memory at a rate, so that a checkpoint takes its time;
// 0 stops that.
func (r *Rig) Dirty(ctx context.Context, pagesPerSecond int) error {
	return r.ask(ctx, fmt.Sprintf("/dirty?pages_per_s=%d&mb=16", pagesPerSecond))
}

// ask makes an HTTP request to the ledger.
func (r *Rig) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DialContext: r.load(0, 0).Dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://10.78.0.201:7080"+path, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the ledger's answer to %s is %s", path, answer.Status)
	}
	return nil
}
