package agent

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc"
	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// Cluster is what the agent needs of the managers.
type Cluster interface {
	// State is the newest state this node knows; it may lag behind the leader's.
	State() core.State
	// Watch pulses after each change of State; stop ends the subscription.
	Watch() (changed <-chan struct{}, stop func())
	// Propose hands a command to the leader, wherever it is, and returns when
	// the cluster has accepted or refused it.
	Propose(ctx context.Context, c core.Command) error
}

// Config is what an Agent needs to know of its node.
type Config struct {
	Node          string
	Listen        string                   // host:port where checkpoints arrive
	MemoryDir     string                   // libvirt's memory_backing_dir, a tmpfs
	RunDir        string                   // for FIFOs and replicas, on a tmpfs
	Peer          func(node string) string // host:port of a node's checkpoint listener
	Patience      time.Duration            // with a host that is silent, at the longest; a commit later than that is not acted on; 0: any is
	SyncBandwidth uint64                   // of the first copy of one guest, bytes a second; QEMU's own bound if 0
	// Lease is until when this host may emit unheld, by what it knows, and no more than
	// that; nil: it never may.
	Lease func(known core.State) time.Time
	Log   *slog.Logger
	Trace *trace.Log // nil: none
}

// Agent makes one host match the cluster's state.
type Agent struct {
	cfg     Config
	host    *domain.Host  // set before ready is closed
	ready   chan struct{} // closed when libvirt answers
	cluster Cluster
	log     *slog.Logger
	notes   *notes

	background sync.WaitGroup // restores and announcements; they end with Run's context

	mu        sync.Mutex // guards the tables and told; the jobs guard themselves
	told      core.State // the one that the jobs were told of last
	primaries map[string]*primary
	backups   map[string]*backup
	restored  map[string]restored          // guests without a job yet
	delivered map[string]input.KeeperStats // what guests that were restored here were given
	ends      map[string]domain.End        // how a primary's guest last ended, by libvirt's events
	orders    map[string]trace.Event       // the last one traced of each protection
	probes    probeCache
}

// New makes an Agent; Run starts it.
func New(cfg Config, cluster Cluster) *Agent {
	log := cfg.Log.With("part", "agent")
	return &Agent{
		cfg: cfg, cluster: cluster, log: log, notes: openNotes(cfg.RunDir, log),
		primaries: map[string]*primary{}, backups: map[string]*backup{}, restored: map[string]restored{}, delivered: map[string]input.KeeperStats{}, ends: map[string]domain.End{}, orders: map[string]trace.Event{}, ready: make(chan struct{}),
	}
}

// Run works until ctx ends and every goroutine of the agent has stopped. Guests run
// on; what is held stays held until an agent is back (I6).
func (a *Agent) Run(ctx context.Context, host *domain.Host) error {
	a.host = host
	close(a.ready)
	if err := domain.CleanStale(ctx, a.host, a.cfg.RunDir); err != nil {
		a.log.Warn("left-over standbys could not be cleared", "err", err)
	}
	if err := bufferqdisc.Sweep(); err != nil {
		a.log.Warn("buffers left of guests that are gone could not be cleared", "err", err)
	}
	ln, err := net.Listen("tcp", a.cfg.Listen)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { a.accept(ctx, ln) })
	wg.Go(func() { a.watchDomains(ctx) })
	wg.Go(func() { a.extendLeases(ctx) })
	a.reconcileLoop(ctx)
	ln.Close()
	a.stopAll()
	a.background.Wait()
	wg.Wait()
	return nil
}

const (
	proposeTimeout = 2 * time.Second
	proposePause   = 50 * time.Millisecond
)

// propose retries a command until the cluster takes it, refuses it for good, or ctx
// ends. The wait between two tries is bounded, the number of tries is not: an agent
// that cannot reach the managers keeps its output held.
func (a *Agent) propose(ctx context.Context, c core.Command) error {
	for {
		err := a.proposeOnce(ctx, c)
		if err == nil || final(err) || ctx.Err() != nil {
			return err
		}
		a.log.Warn("the managers did not answer, trying again", "command", c.Kind, "domain", c.Domain, "err", err)
		if err := sleep(ctx, proposePause); err != nil {
			return err
		}
	}
}

func (a *Agent) proposeOnce(ctx context.Context, c core.Command) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return a.cluster.Propose(ctx, c)
}

// leaseEvery is much less than a lease, and more than nothing.
const leaseEvery = 10 * time.Millisecond

// extendLeases opens the gates for as long as this host's lease lasts, which is renewed
// with each answer of the managers. When this loop stands still, the gates close.
func (a *Agent) extendLeases(ctx context.Context) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.mu.Lock()
		jobs := slices.Collect(maps.Values(a.primaries))
		a.mu.Unlock()
		a.extendRestored()
		for _, job := range jobs {
			if g := job.gate(); g != nil {
				job.extendLease(g, a.lease(job))
			}
		}
	}
}

// lease is until when the guest of a job may emit unheld: this host's lease by all that
// the jobs have been told, and none for a guest that is another's now, or for a copy of a
// former time. What the cluster has decided and the jobs do not know of yet does not count
// as known here.
func (a *Agent) lease(job *primary) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, _ := job.current()
	if a.cfg.Lease == nil || !rules.MayExtend(a.cfg.Node, o) || !rules.MayKeep(*o, job.started.Load()) || job.silent() {
		return time.Time{}
	}
	return a.cfg.Lease(a.told)
}
