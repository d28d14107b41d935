package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

const (
	// endingTimeout is for how long libvirt may take to say how a QEMU that is gone ended.
	endingTimeout = 5 * time.Second
	endingPoll    = 5 * time.Millisecond
	// dyingTimeout is for how long a process may go on that has closed its sockets.
	dyingTimeout = time.Second
	dyingSoon    = 100 * time.Millisecond
)

// howItEnded says whether the guest's run is over and whether somebody wanted that. A
// process that lives is a guest that lives, whatever libvirtd does at the moment; one that
// was killed did not end by request, which the kernel knows at once: libvirt ends a QEMU
// by asking it. Of another that is gone libvirt knows a moment later. dying: it is on its
// way, by the look of it. qemu nil: not known, so all is libvirt's word.
func (a *Agent) howItEnded(ctx context.Context, name string, qemu *detector.Process, dying bool) rules.Guest {
	ctx, cancel := context.WithTimeout(ctx, endingTimeout)
	defer cancel()
	if dying && endsWithin(ctx, qemu, dyingTimeout) && qemu.Killed() && !a.panicked(name) {
		return rules.Crashed
	}
	for ctx.Err() == nil {
		if qemu != nil && !qemu.HasEnded() && !a.panicked(name) {
			return rules.Running
		}
		info, err := a.host.Lookup(ctx, name)
		switch {
		case errors.Is(err, domain.ErrNoDomain):
			return ended(a.lastEnd(name), qemu)
		case err == nil && info.Running(): // started again meanwhile
			a.forgetEnd(name)
			return rules.Running
		case err == nil && info.End != domain.EndNone && a.panicked(name):
			return rules.Panicked
		case err == nil && info.End != domain.EndNone:
			return ended(info.End, qemu)
		}
		_ = sleep(ctx, endingPoll)
	}
	if qemu == nil {
		return rules.Unknown
	}
	return rules.Crashed
}

// ended is libvirt's word on a run, unless QEMU's exit status knows better: libvirt calls a
// crash what it has missed the last word of, as QEMU may reset the monitor as it goes.
func ended(e domain.End, qemu *detector.Process) rules.Guest {
	if e == domain.EndCrash && qemu != nil && qemu.Orderly() {
		return rules.Ended
	}
	return guestOf(e)
}

func guestOf(e domain.End) rules.Guest {
	switch e {
	case domain.EndByRequest:
		return rules.Ended
	case domain.EndPanic:
		return rules.Panicked
	}
	return rules.Crashed
}

// panicked says that the newest that was heard of a guest is that its kernel gave up.
// Where libvirt is told to restart it, it runs on in the same QEMU.
func (a *Agent) panicked(name string) bool { return a.lastEnd(name) == domain.EndPanic }

// lastEnd is for a domain that libvirt has forgotten: one without a definition.
func (a *Agent) lastEnd(name string) domain.End {
	a.mu.Lock()
	defer a.mu.Unlock()
	if end, ok := a.ends[name]; ok {
		return end
	}
	return domain.EndCrash
}

func (a *Agent) forgetEnd(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.ends, name)
}

// watchDomains tells the cluster of guests that end while no session watches them.
func (a *Agent) watchDomains(ctx context.Context) {
	events := a.host.Events(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			a.domainEnded(ctx, e)
		}
	}
}

func (a *Agent) domainEnded(ctx context.Context, e domain.Event) {
	a.mu.Lock()
	job := a.primaries[e.Domain]
	after := a.ends[e.Domain] == domain.EndPanic && e.End == domain.EndCrash // libvirt ends what has panicked
	if job != nil && e.End != domain.EndNone && !after {
		a.ends[e.Domain] = e.End
	}
	a.mu.Unlock()
	if job == nil {
		return
	}
	o, _ := job.current()
	if o != nil && o.Primary == a.cfg.Node && e.Kind == domain.Watchdog {
		job.tell(ctx, core.Command{Kind: core.Trouble, Domain: o.Domain, Generation: o.Generation, Cause: e.Detail})
		return
	}
	if o == nil || o.Primary != a.cfg.Node || o.Phase != core.Solo {
		return // a session notices by itself
	}
	job.tell(ctx, rules.AfterSession(*o, guestOf(a.lastEnd(e.Domain)), e.Detail))
}

// errHung ends the session of a QEMU that does not go on.
var errHung = errors.New("QEMU hangs: it has not taken part in a checkpoint for 4 s")

const (
	hungTick  = 500 * time.Millisecond
	hungTicks = 8 // less than captureTimeout
)

// patience watches that QEMU goes on while a session waits for it. It counts ticks and not
// time: a hamgr that stood still itself has counted none.
type patience struct {
	waits atomic.Bool
	turns atomic.Uint64
}

// during marks a wait for QEMU.
func (w *patience) during(f func() error) error {
	w.turns.Add(1)
	w.waits.Store(true)
	defer w.waits.Store(false)
	return f()
}

// watch calls hung once a single wait has lasted for too long, or returns with ctx.
func (w *patience) watch(ctx context.Context, hung func()) {
	tick := time.NewTicker(hungTick)
	defer tick.Stop()
	last, ticks := uint64(0), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if turn := w.turns.Load(); !w.waits.Load() || turn != last {
			last, ticks = turn, 0
			continue
		}
		if ticks++; ticks >= hungTicks {
			hung()
			return
		}
	}
}

func (p *primary) isProtected() bool {
	o, _ := p.current()
	return o != nil && o.Phase == core.Protected
}

// endHung ends a QEMU that does not go on, so that it can never speak again: its backup
// has the guest.
func (p *primary) endHung(pid int) {
	p.log.Error("ending a QEMU that hangs", "pid", pid)
	if pid == 0 {
		return
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		p.log.Error("it could not be ended; its output stays held", "err", err)
	}
}

// unstick takes QEMU out of the last session, which it did not leave when that ended
// because it hung. Should it go on, its guest would stand still for good (I6). It tries
// for as long as ctx lasts.
func (p *primary) unstick(ctx context.Context) {
	for ctx.Err() == nil && !p.unstickOnce(ctx) {
		_ = sleep(ctx, proposePause)
	}
}

// unstickOnce says whether nothing is left to do.
func (p *primary) unstickOnce(ctx context.Context) bool {
	if !p.stuck {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, rescueTimeout)
	defer cancel()
	err := recoverGuest(ctx, p.agent.host, p.domain)
	if err != nil && p.qemu != nil && !p.qemu.HasEnded() {
		p.log.Warn("QEMU still does not leave its session", "err", err)
		return false
	}
	p.stuck = false
	return true
}

// watchQEMU watches the process of a session until the next one's; pid 0: not known.
func (p *primary) watchQEMU(pid int) (err error) {
	p.forgetQEMU()
	if pid != 0 {
		p.qemu, err = detector.WatchProcess(pid)
	}
	return err
}

// qemuEnded is closed when the QEMU of the session has ended; nil: that is not known.
func (p *primary) qemuEnded() <-chan struct{} {
	if p.qemu == nil {
		return nil
	}
	return p.qemu.Ended()
}

func (p *primary) forgetQEMU() {
	if p.qemu != nil {
		p.qemu.Close()
	}
	p.qemu = nil
}

// errDied ends the session of a QEMU that has died.
var errDied = errors.New("QEMU died")

// cancelOnDeath ends a session at once; its monitor may take longer to notice.
func (p *primary) cancelOnDeath(ctx context.Context, cancel context.CancelCauseFunc) {
	if p.qemu == nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-p.qemu.Ended():
		cancel(errDied)
	}
}

// endsWithin waits for a process's end. libvirt takes its time over a QEMU that is gone.
func endsWithin(ctx context.Context, qemu *detector.Process, limit time.Duration) bool {
	if qemu == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-qemu.Ended():
		return true
	case <-ctx.Done():
		return false
	}
}
