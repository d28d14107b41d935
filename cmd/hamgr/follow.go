package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	followPoll = 50 * time.Millisecond
	// followPatience is for how long the API may not answer while the copy goes on.
	followPatience = 5 * time.Second
	// followNext is for how long the cluster may have no next backup: it has one at once, or
	// when the one it suspected is heard again.
	followNext = 3 * time.Second
	// progressStep is in percent, where no terminal overwrites the last line.
	progressStep = 25
)

// follower shows the first copy's progress. A first copy that fails goes to the next backup
// where the cluster may choose one; else it ends the protection: the operator gets the
// cause, and nothing half-done stays.
type follower struct {
	*app
	want   core.Protection // as it was when the copy began
	pinned bool            // to its backup
	limit  time.Duration
	shown  int       // percent
	alone  time.Time // since when there is no backup; zero: there is
	cause  string    // of that
}

func (f *follower) run(ctx context.Context) (core.Protection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.limit, api.Failure(api.CodeFailed, "the copy goes on; see hamgr status",
		"%s was not protected within %s", f.want.Domain, f.limit))
	defer cancel()
	heard := time.Now()
	f.say(0)
	for {
		st, err := f.find(ctx, f.want.Domain)
		switch {
		case err == nil:
			heard = time.Now()
			done, err := f.judge(ctx, st)
			if done {
				f.endLine()
				return st.Protection, err
			}
		case ctx.Err() == nil && time.Since(heard) < followPatience && exitCode(err) == 5:
		case ctx.Err() == nil:
			f.endLine()
			return f.want, f.gone(ctx, err)
		}
		select {
		case <-ctx.Done():
			f.endLine()
			return f.want, context.Cause(ctx)
		case <-time.After(followPoll):
		}
	}
}

// judge says whether there is nothing more to wait for.
func (f *follower) judge(ctx context.Context, st api.ProtectionStatus) (done bool, err error) {
	switch {
	case st.Phase == core.Protected:
		return true, nil
	case st.Phase == core.Lost:
		return true, api.Failure(api.CodeFailed, "see hamgr events", "%s was lost before it was protected: %s", st.Domain, st.Reason)
	case st.Phase == core.Recovering: // it was protected between two looks
		return false, nil
	case st.Phase == core.Syncing && st.Generation == f.want.Generation:
		if st.Stats != nil {
			f.say(st.Stats.SyncPercent)
		}
		return false, nil
	case f.alone.IsZero():
		f.alone, f.cause = time.Now(), st.Refused[f.want.Backup]
		if f.cause == "" {
			f.cause = st.Reason
		}
	}
	switch {
	case !f.pinned && st.Phase == core.Syncing:
		f.goOn(st.Protection)
		return false, nil
	case !f.pinned && time.Since(f.alone) < followNext:
		return false, nil
	}
	return true, f.undo(ctx, f.cause)
}

// goOn follows the copy to the next backup.
func (f *follower) goOn(p core.Protection) {
	f.endLine()
	fmt.Fprintf(f.errOut, "%s: given up with %s: %s\n", p.Domain, f.want.Backup, f.cause)
	f.want, f.shown, f.alone = p, 0, time.Time{}
	f.say(0)
}

func (f *follower) undo(ctx context.Context, cause string) error {
	advice := "it runs on as before, unprotected; see hamgr check on " + f.want.Backup
	if err := f.client().Do(ctx, http.MethodDelete, protectionPath(f.want.Domain), nil, nil); err != nil && exitCode(err) != 3 {
		advice = fmt.Sprintf("end the attempt with hamgr unprotect %s, which failed now: %v", f.want.Domain, err)
	}
	return api.Failure(api.CodeRefused, advice, "%s could not be protected by %s: %s", f.want.Domain, f.want.Backup, cause)
}

// gone looks for the reason why the protection has ended under us.
func (f *follower) gone(ctx context.Context, err error) error {
	if exitCode(err) != 3 {
		return err
	}
	events, _ := f.client().Events(ctx, 0, 0)
	for i := len(events) - 1; i >= 0; i-- {
		if e := events[i]; e.Kind == core.Unprotect && e.Domain == f.want.Domain {
			return api.Failure(api.CodeFailed, "see hamgr events", "the protection of %s has ended before its first checkpoint: %s", e.Domain, e.Cause)
		}
	}
	return err
}

// say overwrites its line on a terminal, and is sparing elsewhere.
func (f *follower) say(percent int) {
	text := fmt.Sprintf("%s: copying memory from %s to %s", f.want.Domain, f.want.Primary, f.want.Backup)
	if terminal(f.errOut) {
		fmt.Fprintf(f.errOut, "\r%s, %d %%  ", text, percent)
	} else if percent == 0 && f.shown == 0 {
		fmt.Fprintln(f.errOut, text)
		f.shown = 1
	} else if percent >= f.shown+progressStep-1 {
		f.shown = percent
		fmt.Fprintf(f.errOut, "%s, %d %%\n", text, percent)
	}
}

func (f *follower) endLine() {
	if terminal(f.errOut) {
		fmt.Fprintln(f.errOut)
	}
}

func exitCode(err error) int {
	var e *api.Error
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return 1
}
