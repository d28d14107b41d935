package rig

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/test/commit"
)

// mutable is how a host runs hamgr: as what /run/mutant says, if it is there.
func mutable(args []string) []string {
	return append([]string{"sh", "-c", `HAMGR_MUTANT="$(cat /run/mutant 2>/dev/null)" exec "$0" "$@"`}, args...)
}

// Mutate restarts hamgr everywhere so that it makes a mistake, or none, and waits until
// the guest is protected again. Requests that were sent before are no longer judged: what is
// not answered may be the last mistake's. The rig must be one with Mutants.
func (r *Rig) Mutate(ctx context.Context, m mutant.Mistake) error {
	p, err := r.Protected(ctx, 0, r.Patience())
	if err != nil {
		return err
	}
	for _, h := range r.Nodes() {
		if err := r.kill(ctx, commit.AgentKilled, h, "sh", "-c", fmt.Sprintf("echo %s > /run/mutant; %s", m, killHamgr)); err != nil {
			return err
		}
	}
	r.mutated = time.Now()
	_, err = r.Protected(ctx, p.Generation, r.Patience())
	return err
}

// KillBackupInMidCommit has the backup's agent stand still, so that the primary has sent
// a checkpoint and waits for its commit, and then kills it.
func (r *Rig) KillBackupInMidCommit(ctx context.Context, backup string) error {
	return r.kill(ctx, commit.AgentKilled, backup, "sh", "-c", "pkill -STOP -x hamgr; sleep 0.06; pkill -KILL -x hamgr")
}

// Dirty has the guest write to its memory at a rate, so that a checkpoint takes its time;
// 0 stops that.
func (r *Rig) Dirty(ctx context.Context, pagesPerSecond int) error {
	return r.ask(ctx, fmt.Sprintf("/dirty?pages_per_s=%d&mb=16", pagesPerSecond))
}

// ask makes an HTTP request to the ledger.
func (r *Rig) ask(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, r.Patience())
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
