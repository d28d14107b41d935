package agent

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// restored is a guest that was restored here and has no job yet. While it was, the cluster
// may have decided something else about it.
type restored struct {
	uuid    string
	running bool
	gate    *bufferqdisc.Gate // nil: it needs none
}

// noteRestored is for a guest that is about to be restored here, while its taps are down
// still. It puts the gate before it, if it needs one.
func (a *Agent) noteRestored(p core.Protection, nics []domain.NIC) (err error) {
	r := restored{uuid: p.UUID}
	if rules.Leased(p) {
		if r.gate, err = bufferqdisc.NewGate(p.Domain, taps(domain.Info{NICs: nics}), a.leaseOf(p.Domain)); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.restored[p.Domain] = r
	return nil
}

// leaseOf is until when a guest without a job may emit unheld, or be started: the order is of
// the state that counts, which is acted on at once.
func (a *Agent) leaseOf(name string) time.Time { return a.leaseBy(a.cluster.State(), name) }

func (a *Agent) leaseBy(s core.State, name string) time.Time {
	o, ok := s.Protections[name]
	if a.cfg.Lease == nil || !ok || !rules.MayExtend(a.cfg.Node, &o) {
		return time.Time{}
	}
	return a.cfg.Lease(s)
}

// extendRestored keeps the gates of guests open that have no job yet.
func (a *Agent) extendRestored() {
	a.mu.Lock()
	all := maps.Clone(a.restored)
	a.mu.Unlock()
	s := a.cluster.State()
	for name, r := range all {
		if r.gate == nil {
			continue
		}
		var until time.Time
		if rules.MayKeep(s.Protections[name], 0) { // else this copy is of a former time by now
			until = a.leaseBy(s, name)
		}
		if err := r.gate.Extend(until); err != nil && !errors.Is(err, bufferqdisc.ErrCut) {
			a.log.Error("the lease of a restored guest could not be extended; its output closes", "domain", name, "err", err)
		}
	}
}

// settleRestoredLocked sees to guests that were restored here and are another node's by
// now, or nobody's.
func (a *Agent) settleRestoredLocked(ctx context.Context, s core.State) {
	for name, r := range a.restored {
		p, ok := s.Protections[name]
		if !r.running || ok && p.Primary == a.cfg.Node && p.UUID == r.uuid {
			continue // its job will see to it
		}
		duty := rules.Fence
		if e, known := s.Ended[name]; !ok {
			duty = rules.Gone(a.cfg.Node, 0, e, known)
		}
		delete(a.restored, name)
		a.settle(ctx, name, r.uuid, duty)
		if r.gate != nil {
			r.gate.Abandon()
		}
	}
}

// restoredRuns notes that the guest runs.
func (a *Agent) restoredRuns(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.restored[name]; ok {
		r.running = true
		a.restored[name] = r
	}
}

// forgetRestored is for a guest that could not be restored.
func (a *Agent) forgetRestored(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.restored[name]; r.gate != nil {
		r.gate.Abandon()
	}
	delete(a.restored, name)
}
