package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	decideInterval = 20 * time.Millisecond
	// failoversAtOnce caps one round, othersAtOnce the rest of it: a broken switch must
	// not move the whole world before anybody can look.
	failoversAtOnce = 4
	othersAtOnce    = 16
	proposeTimeout  = 2 * time.Second
	// refusedPause is for how long a domain is left alone after a refused decision.
	refusedPause = time.Second
)

// Sight is what the leader needs to see of the other nodes; a detector.Detector has it.
type Sight interface {
	Suspected(peer string, voters []string) (bool, string)
	Silence(peer string) time.Duration
	Unheard(peer string) time.Duration
	Status() map[string]detector.PeerStatus
	SelfIsolated() bool
	Changed() <-chan struct{}
}

// RunLeader decides and proposes for as long as this node leads, and waits while it does
// not, until ctx or the cluster ends. memoryFree is for core.View, in bytes by node; it
// may be nil.
func (c *Cluster) RunLeader(ctx context.Context, sight Sight, memoryFree func() map[string]uint64) {
	changed, stop := c.machine.watch()
	defer stop()
	tick := time.NewTicker(decideInterval)
	defer tick.Stop()
	l := &leader{Cluster: c, sight: sight, memoryFree: memoryFree, paused: map[string]time.Time{}}
	var h hurry
	defer h.end(c)
	var a aside
	for {
		seen := sight.Changed()
		if !c.IsLeader() {
			a = aside{next: a.next}
			h.look(c, sight, time.Now())
		} else {
			h.end(c)
			c.lead(time.Now())
			if !sight.SelfIsolated() {
				l.round(ctx)
				a.look(ctx, c, sight, time.Now())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.ctx.Done():
			return
		case <-changed:
		case <-seen:
		case <-tick.C:
		}
	}
}

// leader is the state of one RunLeader.
type leader struct {
	*Cluster
	sight      Sight
	memoryFree func() map[string]uint64

	mu     sync.Mutex // guards paused
	paused map[string]time.Time
}

// round proposes what is to be done now, all at once: Raft takes commands that arrive
// together to disk together.
func (l *leader) round(ctx context.Context) {
	now := time.Now()
	commands := core.Decide(*l.machine.state.Load(), l.view(now))
	var wg sync.WaitGroup
	for _, cmd := range l.due(commands, now) {
		wg.Go(func() { l.propose(ctx, cmd) })
	}
	wg.Wait()
}

func (l *leader) due(commands []core.Command, now time.Time) []core.Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.paused, func(_ string, until time.Time) bool { return now.After(until) })
	budget := map[bool]int{true: failoversAtOnce, false: othersAtOnce}
	return slices.DeleteFunc(commands, func(c core.Command) bool {
		if _, paused := l.paused[c.Domain]; paused {
			return true
		}
		budget[c.Kind == core.FailOver]--
		return budget[c.Kind == core.FailOver] < 0
	})
}

func (l *leader) propose(ctx context.Context, cmd core.Command) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	settle := l.withhold(cmd)
	defer settle(nil) // Propose keeps its own count for as long as the outcome is unknown
	if cmd.Silenced && !l.lapsedNow(cmd) {
		return // it was heard again since the decision, and may have got a grant
	}
	err := l.Propose(ctx, cmd)
	if err == nil || ctx.Err() != nil {
		return
	}
	l.log.Warn("decision not carried out", "command", cmd.Kind, "domain", cmd.Domain, "generation", cmd.Generation, "err", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused[cmd.Domain] = time.Now(); core.Refused(err) {
		l.paused[cmd.Domain] = time.Now().Add(refusedPause)
	}
}

func (l *leader) lapsedNow(cmd core.Command) bool {
	p := l.machine.state.Load().Protections[cmd.Domain]
	return l.lapsed(l.sight.Unheard(p.Primary), l.cfg.LeaseWait, time.Now())
}

func (l *leader) view(now time.Time) core.View {
	voters := l.machine.state.Load().Voters()
	v := core.View{
		Now:     now,
		Dead:    func(node string) (bool, string) { return l.sight.Suspected(node, voters) },
		Silence: l.sight.Silence,
		Lapsed:  func(node string) bool { return l.lapsed(l.sight.Unheard(node), l.cfg.LeaseWait, now) },
		Alive:   []string{l.cfg.Node},
	}
	status := l.sight.Status()
	v.Gone = func(node string) bool {
		if node == l.cfg.Node { // restarted, and not registered yet
			return !l.caughtUp(l.machine.state.Load())
		}
		return gone(l.machine.state.Load().Nodes[node], status[node])
	}
	for name, p := range status {
		if p.State == detector.Alive && p.Started != 0 {
			v.Alive = append(v.Alive, name)
		}
	}
	if l.memoryFree != nil {
		v.MemoryFree = l.memoryFree()
	}
	return v
}

// gone says that the process that n registered last runs no more, by what is seen of it.
func gone(n core.Node, seen detector.PeerStatus) bool {
	another := seen.State == detector.Alive && seen.Started != 0 && n.Started != 0 && seen.Started != n.Started
	return seen.Refused || another
}
