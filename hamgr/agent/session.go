package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/internal/mutant"
	"github.com/hamgr/hamgr/qmp"
	"github.com/hamgr/hamgr/qmp/colo"
	"github.com/hamgr/hamgr/storage/wire"
)

const (
	dialTimeout = 2 * time.Second
	// commitTimeout bounds the wait for a commit; the guest's output is held meanwhile.
	commitTimeout = 3 * time.Second
	// captureTimeout bounds the time a guest stays stopped: the watchdog of I6.
	captureTimeout = 5 * time.Second
	helloTimeout   = 30 * time.Second
	// freshFor is for how long after a failover a guest answers what has waited for it before
	// its memory is copied again: the copy takes a core and more from it.
	freshFor       = 400 * time.Millisecond
	precopyTimeout = 10 * time.Minute
)

// session is one stretch of checkpoints to one backup, under one generation.
type session struct {
	p       *primary
	order   core.Protection // as it was at the beginning; mode and phase may change
	info    domain.Info
	sender  *wire.Sender
	conn    net.Conn  // sender's
	there   time.Time // the backup, for all that is known: when the last checkpoint was sent, or at a look since
	colo    *colo.Session
	ckpt    *wire.Checkpoint
	synced  chan error
	clock   time.Time         // when the last epoch began
	due     time.Time         // when the one under way is to end
	ended   bufferqdisc.Epoch // of the output, whose checkpoint is under way; 0: none
	asked   core.Mode         // the mode the cluster was told of
	tellers sync.WaitGroup
	qemu    patience
	mirror  *input.Mirror  // nil: the input is not copied
	kept    wire.Committed // by the backup, in the last epoch
	taken   []uint64       // of the input, by the guest, in the last epoch's checkpoint
	looked  time.Time      // at the input, during the first copy
	copying bool           // mirror has been started
	moves   time.Time      // the guest that is to move, with or without what waits for a lease; zero: not yet
	queued  bool           // input that the guest has not taken may be lost at this epoch's end

	loss     inputLoss
	lossTold bool        // the cluster knows of one
	telling  atomic.Bool // it is being told
}

// session protects the guest until something fails or the order changes. On return
// the guest runs, outside any session, and its output is as held as it was.
func (p *primary) session(parent context.Context, o core.Protection) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() { p.cancelOnChange(ctx, cancel, o) })
	if err := sleep(ctx, time.Until(p.fresh)); err != nil {
		return why(ctx, err)
	}
	info, err := p.agent.host.Lookup(ctx, o.Domain)
	if err != nil {
		return err
	}
	if err := p.watchQEMU(info.PID); err != nil {
		return err
	}
	s := &session{p: p, order: o, info: info, ckpt: wire.NewCheckpoint(), synced: make(chan error, 1)}
	defer s.tellers.Wait()
	defer cancel(nil)
	p.unstick(ctx)
	if err := p.agent.notes.primary(o); err != nil {
		return err
	}
	if err := s.readyOutput(); err != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return why(ctx, err)
	}
	defer s.sender.Close()
	defer s.closeInput()
	if err := s.arm(ctx); err != nil {
		return why(ctx, err)
	}
	watch.Go(func() { s.qemu.watch(ctx, func() { cancel(errHung) }) })
	watch.Go(func() { p.cancelOnDeath(ctx, cancel) })
	err = s.epochs(ctx)
	switch cause := why(ctx, err); {
	case errors.Is(err, errMoved):
		s.copyOn()
		return err
	case errors.Is(cause, errHung) && p.isProtected():
		s.copyOn()
		p.endHung(info.PID)
		return cause
	case errors.Is(cause, errDied), errors.Is(cause, colo.ErrTruncated) && endsWithin(parent, p.qemu, dyingSoon):
		if p.isProtected() {
			s.copyOn()
		}
		p.reportEnd(parent, o.Generation, cause) // now: to clear up takes the kernel 50 ms and more
		return cause                             // there is nobody to take out of it
	default:
		return s.disarm(cause)
	}
}

// cancelOnChange ends a session whose generation is no longer the cluster's.
func (p *primary) cancelOnChange(ctx context.Context, cancel context.CancelCauseFunc, o core.Protection) {
	for {
		now, wake := p.current()
		if now == nil || now.Generation != o.Generation {
			cancel(fmt.Errorf("generation %d of %s is over", o.Generation, o.Domain))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
	}
}

// readyOutput finds out whether the mode can be had here before anything is sent.
func (s *session) readyOutput() (err error) {
	if rules.Leased(s.order) {
		err = s.p.setUpGate(s.info)
	}
	if err == nil && s.order.Mode == core.Buffer {
		err = s.p.setUpBuffer(s.info)
	}
	return err
}

func (s *session) connect(ctx context.Context) error {
	to := s.p.agent.cfg.Peer(s.order.Backup)
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return fmt.Errorf("backup %s: %w", s.order.Backup, err)
	}
	s.conn, s.sender = conn, wire.NewSender(conn)
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	hello := wire.Hello{
		Domain: s.info.Name, UUID: s.info.UUID, Primary: s.order.Primary, Generation: s.order.Generation,
		RaftIndex: s.p.agent.cluster.State().Index, DomainXML: s.info.XML,
		QEMUVersion: s.info.QEMUVersion, MemoryBytes: s.info.MemoryBytes,
	}
	if s.order.Input {
		hello.InputNICs = len(s.info.NICs)
	}
	accepted, err := s.sender.Hello(ctx, hello)
	if err != nil {
		s.sender.Close()
		return fmt.Errorf("backup %s: %w", s.order.Backup, err)
	}
	s.copyInput(accepted, conn.RemoteAddr())
	return nil
}

// arm puts QEMU into COLO and sends all of its memory; the guest runs meanwhile.
func (s *session) arm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, precopyTimeout)
	defer cancel()
	client := qmp.New(qmp.NewPassthrough(s.p.agent.host.Command(s.order.Domain)))
	sink := &precopySink{ctx: ctx, sender: s.sender, stats: s.p.stats, last: lastPartOf(s.p.agent.cfg.SyncBandwidth), flushed: s.duringFirstCopy, ending: s.beforeFirstStop}
	cs, err := colo.Arm(ctx, client, colo.Options{CheckpointDelay: pollDelay, MaxBandwidth: s.p.agent.cfg.SyncBandwidth}, sink)
	if err != nil {
		s.p.stuck = true // perhaps: libvirtd may have been away when it was to be taken out again
		return fmt.Errorf("checkpoints of %s: %w", s.order.Domain, err)
	}
	s.colo = cs
	if err = sink.finish(); err == nil {
		err = cs.Ready()
	}
	if err != nil {
		return s.disarm(err)
	}
	s.resumeInput()
	s.clock = time.Now()
	s.due = s.clock.Add(s.order.Epoch)
	return nil
}

// pollDelay is QEMU's own checkpoint timer; short, since the epoch clock is the agent's reply.
const pollDelay = 2 * time.Millisecond

// disarm takes QEMU out of COLO, whatever ended the session; the guest runs on.
func (s *session) disarm(cause error) error {
	if mutant.Is(mutant.ReleaseOnError) && s.p.out.held {
		s.p.out.buffer.Open()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.colo.Disarm(ctx); err != nil {
		s.p.log.Warn("QEMU did not leave its session", "err", err)
		s.p.stuck = true
	}
	return cause
}

func (s *session) epochs(ctx context.Context) error {
	for epoch := uint64(1); ; epoch++ {
		if err := s.epoch(ctx, epoch); err != nil {
			return err
		}
		select {
		case err := <-s.synced:
			if err != nil {
				return err
			}
		default:
		}
	}
}

// epoch is one turn of the life of an epoch (ARCHITECTURE.md).
func (s *session) epoch(ctx context.Context, n uint64) error {
	if err := s.qemu.during(func() error { return s.colo.WaitRequest(ctx) }); err != nil {
		return err
	}
	if err := sleep(ctx, time.Until(s.due)); err != nil {
		return err
	}
	s.due = due(s.due, time.Now(), s.order.Epoch)
	taken := s.pauseInput()
	s.clock = time.Now()
	now, _ := s.p.current()
	if now == nil {
		return errors.New("the protection has ended") // and closeInput lets go what waits
	}
	o := *now
	err := s.qemu.during(func() (err error) {
		s.ended, err = s.capture(ctx, n, &o)
		return err
	})
	s.resumeInput()
	if err != nil {
		return err
	}
	paused := time.Since(s.clock)
	if err := s.ship(ctx, n); err != nil {
		return err
	}
	s.trace(trace.Acked, n, time.Time{})
	s.p.stats.epoch(paused, time.Since(s.clock)-paused, s.ckpt)
	if s.ended > 0 {
		if err := s.release(ctx); err != nil {
			return err
		}
		s.trace(trace.Released, n, time.Time{})
	}
	if o.Moving && !s.movesNow(o) { // the lease has ended in between
		o.Moving = false
		if err := s.colo.Resume(); err != nil {
			return err
		}
	}
	if err := s.forgetInput(ctx, taken, o.Moving); err != nil {
		return err
	}
	if n == 1 {
		s.tellers.Go(func() { s.reportSynced(ctx) })
	}
	if o.Moving {
		return s.handOver(ctx, o)
	}
	s.changeMode(ctx, o)
	s.tellLoss(ctx, o)
	return nil
}

// due is when an epoch is to end that follows on one which was to end at last. The ends keep
// to a plan, or else what each one takes would make every epoch longer; where an end came
// so late that the next epoch would be less than half of one, there is a new plan.
func due(last, now time.Time, epoch time.Duration) time.Time {
	if next := last.Add(epoch); next.Sub(now) > epoch/2 {
		return next
	}
	return now.Add(epoch)
}

// capture stops the guest, takes the epoch's pages and device state into memory and
// lets the guest run again.
func (s *session) capture(ctx context.Context, n uint64, o *core.Protection) (ended bufferqdisc.Epoch, err error) {
	ctx, cancel := context.WithTimeout(ctx, captureTimeout)
	defer cancel()
	s.ckpt.Reset(n)
	s.sender.Begin(s.ckpt)
	asked, stopped := time.Now(), time.Time{}
	state, err := s.colo.Capture(ctx, func() (err error) {
		stopped = time.Now()
		ended, err = s.endEpoch(o)
		return err
	}, checkpointSink{s.ckpt})
	if err != nil {
		return 0, err
	}
	s.ckpt.SetDeviceState(state)
	if !o.Moving { // then the guest has run here for the last time, if all goes well
		err = s.colo.Resume()
	}
	s.traceBoundary(n, asked, stopped) // late, to keep the pause short
	return ended, err
}

func (s *session) ship(ctx context.Context, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := s.sender.Ship(ctx, s.ckpt); err != nil {
		return fmt.Errorf("backup %s: %w", s.order.Backup, err)
	}
	s.there = time.Now()
	if mutant.Is(mutant.ReleaseWhenWritten) && s.ended > 0 {
		s.p.out.buffer.Release(s.ended, time.Now().Add(time.Hour))
	}
	got, err := s.sender.WaitCommit(ctx)
	if mutant.Is(mutant.IgnoreFailedCommit) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("backup %s did not commit epoch %d: %w", s.order.Backup, n, err)
	}
	if got.Epoch != n {
		return fmt.Errorf("backup %s committed epoch %d instead of %d", s.order.Backup, got.Epoch, n)
	}
	s.kept = got
	return nil
}

func (s *session) reportSynced(ctx context.Context) {
	s.synced <- s.p.agent.propose(ctx, core.Command{Kind: core.Synced, Domain: s.order.Domain, Generation: s.order.Generation})
}

// why prefers the reason a context was cancelled with to the error that followed from it.
func why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
