package agent

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/hamgr/hamgr/internal/mutant"
)

// deadSilence is more than a busy machine makes of the time between two checkpoints.
const deadSilence = time.Second

// boundSilence bounds the wait for the primary's next word.
func (b *backup) boundSilence() {
	if mutant.Is(mutant.FailoverWithoutRaft) && b.begun {
		b.conn.SetReadDeadline(time.Now().Add(deadSilence))
	}
}

// usurp restores the guest here when the primary has fallen silent, whatever the cluster
// says.
func (b *backup) usurp(ctx context.Context, end error) {
	if !mutant.Is(mutant.FailoverWithoutRaft) || !errors.Is(end, os.ErrDeadlineExceeded) {
		return
	}
	a := b.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	p, protected := a.cluster.State().Protections[b.hello.Domain]
	if !protected {
		return
	}
	p.Primary, p.Backup, p.Generation = a.cfg.Node, "", b.hello.Generation+1
	b.takeOver(ctx, p)
}
