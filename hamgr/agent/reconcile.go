package agent

import (
	"context"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// reconcileLoop compares the agreed state with what runs here after each change, and
// once a second in case something here changed instead.
func (a *Agent) reconcileLoop(ctx context.Context) {
	changed, stop := a.cluster.Watch()
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for first := true; ; {
		if s := a.cluster.State(); s.Index > 0 {
			a.reconcile(ctx, s, first)
			first = false
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
// agent of this node may have left behind.
func (a *Agent) reconcile(ctx context.Context, s core.State, adopt bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.traceOrders(s)
	for name, p := range s.Protections {
		if p.Primary == a.cfg.Node {
			a.lead(ctx, p, adopt)
		} else if job := a.primaries[name]; job != nil {
			job.update(p)
		} else if adopt {
			a.clearFenced(ctx, p)
		}
	}
	for name, job := range a.primaries {
		if _, ok := s.Protections[name]; !ok {
			job.remove()
		}
		if job.stopped() {
			delete(a.primaries, name)
			delete(a.ends, name)
		}
	}
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
	if b := a.backups[p.Domain]; p.Phase == core.Recovering && b != nil {
		b.takeOver(ctx, p)
		return
	}
	job := a.primaries[p.Domain]
	if job == nil || job.stopped() {
		if p.Phase == core.Lost {
			return
		}
		job = newPrimary(a, p, adopt)
		a.primaries[p.Domain] = job
		job.start(ctx)
		return
	}
	job.update(p)
}

// clearFenced ends a copy of a domain that this node no longer owns: it is what an
// earlier agent left when its host was declared dead.
func (a *Agent) clearFenced(ctx context.Context, p core.Protection) {
	if p.Backup == a.cfg.Node || p.Phase == core.Lost {
		return
	}
	info, err := a.host.Lookup(ctx, p.Domain)
	if err != nil || info.UUID != p.UUID || !info.Running() {
		return
	}
	a.log.Warn("ending a fenced copy", "domain", p.Domain, "generation", p.Generation, "owner", p.Primary)
	if err := a.host.Destroy(ctx, p.Domain); err != nil {
		a.log.Error("a fenced copy could not be ended; its output stays cut", "domain", p.Domain, "err", err)
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
