package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// errMoved ends the session of a guest that was handed over.
var errMoved = errors.New("the guest was handed over")

// handOverTimeout bounds how long the guest stands still for the cluster's answer.
const handOverTimeout = 2 * time.Second

// handOver makes the backup the owner. The guest stands still, its last checkpoint is
// committed and its output has gone: nothing is lost. Without an answer in time it runs
// on here with its output held, which is right whatever the answer was: if it was taken
// over after all, no commit comes any more and nothing is let go.
func (s *session) handOver(ctx context.Context, o core.Protection) error {
	// Not ended by the session's context: that is cancelled by the very answer.
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTimeout)
	defer cancel()
	err := s.p.agent.propose(try, core.Command{
		Kind: core.FailOver, Domain: o.Domain, Generation: o.Generation, Planned: true, Silenced: true,
		Cause: "handed over by " + o.Primary,
	})
	if err == nil {
		s.p.abandon()
		if err := s.p.agent.host.Destroy(context.WithoutCancel(ctx), o.Domain); err != nil {
			s.p.log.Error("the guest was handed over and its copy here could not be ended; its output stays cut", "err", err)
		}
		return errMoved
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.p.log.Warn("the guest could not be handed over, it runs on here", "err", err)
	cause := err.Error()
	s.tellers.Go(func() {
		s.p.tell(ctx, core.Command{Kind: core.Stay, Domain: o.Domain, Generation: o.Generation, Cause: cause})
	})
	return s.colo.Resume()
}
