package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
)

// reconcileLoop compares the agreed state with what runs here after each change, and
// once a second in case something here changed instead.
func (a *Agent) reconcileLoop(ctx context.Context) {
	changed, stop := a.cluster.Watch()
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	first, reinstated := true, uint64(0)
	for {
		if s := a.cluster.State(); s.Index > 0 {
			a.reconcile(ctx, s, first || s.Reinstated != reinstated)
			first, reinstated = false, s.Reinstated
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// reconcile starts, redirects and stops jobs. adopt is set once, for what an earlier
// agent of this node may have left behind, and again when a saved state is in force.
func (a *Agent) reconcile(ctx context.Context, s core.State, adopt bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.traceOrders(s)
	a.told = s
	for name, p := range s.Protections {
		if p.Primary == a.cfg.Node {
			a.lead(ctx, p, adopt)
		} else if job := a.primaries[name]; job != nil {
			job.update(p)
		} else if adopt {
			a.settle(ctx, name, p.UUID, rules.Fence)
		}
	}
	if adopt {
		for name, e := range s.Ended {
			a.settle(ctx, name, e.UUID, rules.Gone(a.cfg.Node, 0, e, true))
		}
	}
	for name, job := range a.primaries {
		if _, ok := s.Protections[name]; !ok {
			e, known := s.Ended[name]
			job.ended(e, known)
		}
		if job.stopped() {
			delete(a.primaries, name)
			delete(a.ends, name)
		}
	}
	a.notes.forget(s)
	a.settleRestoredLocked(ctx, s)
	for name, b := range a.backups {
		p, ok := s.Protections[name]
		if b.obsolete(a.cfg.Node, p, ok) {
			b.discard()
			delete(a.backups, name)
		}
	}
}

// lead sees to a protection whose primary is this node.
func (a *Agent) lead(ctx context.Context, p core.Protection, adopt bool) {
	if b := a.backups[p.Domain]; b != nil && rules.TakesOver(a.cfg.Node, p, b.which()) {
		b.takeOver(ctx, p)
		return
	}
	job := a.primaries[p.Domain]
	if job == nil || job.stopped() {
		r, restored := a.restored[p.Domain]
		if p.Phase == core.Lost && !adopt && !restored {
			return
		}
		job = newPrimary(a, p, adopt)
		job.out.gate = r.gate
		if restored {
			job.fresh = time.Now().Add(freshFor)
		}
		delete(a.restored, p.Domain)
		a.primaries[p.Domain] = job
		job.start(ctx)
		return
	}
	job.update(p)
}

// settle sees to what an earlier agent of this host left of a guest that has no job here:
// its taps say that it was protected here. The guest's owner gets its network back; any
// other copy, which was left when its host was declared dead, is ended. One without our
// marks, started here since, is not hamgr's business.
func (a *Agent) settle(ctx context.Context, name, uuid string, duty rules.Duty) {
	info, err := a.host.Lookup(ctx, name)
	if err != nil || info.UUID != uuid || !info.Running() {
		return
	}
	left, err := bufferqdisc.Left(taps(info))
	if err != nil || !left {
		return
	}
	switch duty {
	case rules.Release:
		err = errors.Join(bufferqdisc.Clear(taps(info)), input.Clear(taps(info)))
	case rules.Fence:
		a.log.Warn("ending a fenced copy", "domain", name)
		a.cutInput(taps(info))
		err = errors.Join(bufferqdisc.Drop(taps(info)), a.host.Destroy(ctx, name))
	}
	if err != nil {
		a.log.Error("what an earlier agent left could not be settled; the output stays cut", "domain", name, "err", err)
	}
}

func (a *Agent) stopAll() {
	a.mu.Lock()
	jobs, backups := a.primaries, a.backups
	a.primaries, a.backups = map[string]*primary{}, map[string]*backup{}
	a.mu.Unlock()
	for _, j := range jobs {
		<-j.done
	}
	for _, b := range backups {
		b.discard()
	}
}

// final says that repeating a command cannot help.
func final(err error) bool { return core.Refused(err) }
