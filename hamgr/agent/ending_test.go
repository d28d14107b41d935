package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPatience: a QEMU that takes part in checkpoints, slowly, is not given up; one that
// does not is, once; and the agent's own waits for a backup do not count.
func TestPatience(t *testing.T) {
	for name, c := range map[string]struct {
		session func(ctx context.Context, w *patience)
		hung    bool
	}{
		"slow checkpoints": {func(ctx context.Context, w *patience) {
			for ctx.Err() == nil {
				_ = w.during(func() error { return sleep(ctx, hungTick*(hungTicks-2)) })
			}
		}, false},
		"a slow backup": {func(ctx context.Context, w *patience) { <-ctx.Done() }, false},
		"no answer": {func(ctx context.Context, w *patience) {
			_ = w.during(func() error { <-ctx.Done(); return nil })
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				w, hung := &patience{}, 0
				go c.session(ctx, w)
				w.watch(ctx, func() { hung++; cancel() })
				if (hung == 1) != c.hung {
					t.Errorf("given up %d times", hung)
				}
				synctest.Wait()
			})
		})
	}
}
