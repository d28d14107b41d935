package agent

import (
	"errors"
	"maps"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
)

// gateRestored puts the gate before a guest that is about to be restored here, if it needs
// one, while its taps are down still. The gate is the job's once there is one.
func (a *Agent) gateRestored(p core.Protection, nics []domain.NIC) error {
	if !rules.Leased(p) {
		return nil
	}
	g, err := bufferqdisc.NewGate(p.Domain, taps(domain.Info{NICs: nics}), a.leaseOf(p.Domain))
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gates[p.Domain] = g
	return nil
}

// leaseOf is until when a guest without a job may emit unheld: order and index are of one
// state, which is acted on at once.
func (a *Agent) leaseOf(name string) time.Time {
	s := a.cluster.State()
	o, ok := s.Protections[name]
	if a.cfg.Lease == nil || !ok || !rules.MayExtend(a.cfg.Node, &o) {
		return time.Time{}
	}
	return a.cfg.Lease(s.Index)
}

// extendRestored keeps the gates of guests open that have no job yet.
func (a *Agent) extendRestored() {
	a.mu.Lock()
	gates := maps.Clone(a.gates)
	a.mu.Unlock()
	for name, g := range gates {
		if err := g.Extend(a.leaseOf(name)); err != nil && !errors.Is(err, bufferqdisc.ErrCut) {
			a.log.Error("the lease of a restored guest could not be extended; its output closes", "domain", name, "err", err)
		}
	}
}

// dropGate is for a guest that could not be restored.
func (a *Agent) dropGate(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.takeGateLocked(name); g != nil {
		g.Abandon()
	}
}

// takeGateLocked hands the gate of a restored guest over to its job.
func (a *Agent) takeGateLocked(name string) *bufferqdisc.Gate {
	g := a.gates[name]
	delete(a.gates, name)
	return g
}
