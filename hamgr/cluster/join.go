package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	joinPause  = 50 * time.Millisecond // between two rounds of questions
	askTimeout = time.Second           // of one
	// blankTimeout is more than an election takes and a change of the managers.
	blankTimeout = 10 * time.Second
)

// Others is how a node that starts without a log asks the others.
type Others interface {
	// Standing asks the node at a management address.
	Standing(ctx context.Context, addr string) (Standing, error)
	// Blank takes n to the leader's Blank, by way of the node at addr.
	Blank(ctx context.Context, addr string, n core.Node) error
}

// Standing is how far a node's part in a cluster has got.
type Standing struct {
	Last     uint64            `json:"last"`     // the end of its log; 0: it has none, 1: it has begun one and nothing more
	Applied  uint64            `json:"applied"`  // up to where it has followed
	Managers map[string]string `json:"managers"` // those it was configured with
}

// Standing is this node's.
func (c *Cluster) Standing() Standing {
	return Standing{Last: c.raft.LastIndex(), Applied: c.raft.AppliedIndex(), Managers: c.cfg.Managers}
}

// Blank is for a node that starts without a log. A manager's vote and what it has
// acknowledged are on its disk; one that has lost it must not vote as if it had done
// neither, so it is no manager any more. Errors: those of RemoveManager,
// core.ErrNodeNameTaken.
func (c *Cluster) Blank(ctx context.Context, n core.Node) error {
	s := c.machine.state.Load()
	if err := s.CheckName(n); err != nil {
		return err
	}
	if addr, manager := s.Managers[n.Name]; manager && addr != n.Addr {
		return fmt.Errorf("%w: %q is a manager at %s", core.ErrNodeNameTaken, n.Name, addr)
	}
	return c.change(ctx, core.ManagerRemoved, n.Name, "it has lost its log", func(s *core.State) raft.Future {
		if _, manager := s.Managers[n.Name]; !manager {
			return nil
		}
		return c.raft.DemoteVoter(raft.ServerID(n.Name), 0, enqueueTimeout)
	})
}

// join is the start of a node without a log. Until it ends Raft hears nothing here. Either
// there is a cluster, and the leader has made sure that this node has no vote in it; or
// there is none, by the word of all managers of the configuration, and this is one of them:
// then they all write the same first entry, and take part once all have it.
func (c *Cluster) join() {
	for said := ""; ; {
		wait := c.tryJoin()
		if wait == nil {
			c.stream.open()
			close(c.joined)
			return
		}
		if c.ctx.Err() != nil {
			return
		}
		c.waits.Store(&wait)
		if text := wait.Error(); text != said {
			said = text
			c.log.Warn("this node has no log and waits to take part", "because", text)
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(joinPause):
		}
	}
}

// answer is one node's Standing.
type answer struct {
	Standing
	err error
}

// tryJoin is one round; the error is what is waited for.
func (c *Cluster) tryJoin() error {
	others := maps.Clone(c.cfg.Managers)
	delete(others, c.cfg.Node)
	answers := c.askAll(others)
	begun := c.raft.LastIndex() > 0 // by an earlier round
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if a := answers[name]; a.err == nil && a.Last > 1 && !begun {
			return c.joinLate(name, others[name])
		}
	}
	if !c.cfg.isManager() {
		return fmt.Errorf("no manager knows of a cluster: %s", summary(answers))
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		switch a := answers[name]; {
		case a.err != nil:
			return fmt.Errorf("a new cluster begins when all its managers are there, and %s does not answer: %w", name, a.err)
		case !maps.Equal(a.Managers, c.cfg.Managers):
			return fmt.Errorf("%s is configured with the managers %v, this node with %v", name, a.Managers, c.cfg.Managers)
		}
	}
	if !begun {
		if err := c.raft.BootstrapCluster(c.cfg.voters()).Error(); err != nil {
			return fmt.Errorf("begin a cluster: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if answers[name].Last == 0 {
			return fmt.Errorf("%s has not begun yet", name)
		}
	}
	return nil
}

// joinLate is for a cluster that was there before.
func (c *Cluster) joinLate(name, addr string) error {
	ctx, cancel := context.WithTimeout(c.ctx, blankTimeout)
	defer cancel()
	if err := c.cfg.Others.Blank(ctx, addr, c.node()); err != nil {
		return fmt.Errorf("by way of %s, which knows of a cluster: %w", name, err)
	}
	return nil
}

func (c *Cluster) askAll(addrs map[string]string) map[string]answer {
	ctx, cancel := context.WithTimeout(c.ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex // guards out
	out := map[string]answer{}
	var wg sync.WaitGroup
	for name, addr := range addrs {
		wg.Go(func() {
			s, err := c.cfg.Others.Standing(ctx, addr)
			mu.Lock()
			defer mu.Unlock()
			out[name] = answer{s, err}
		})
	}
	wg.Wait()
	return out
}

// summary is what became of the questions.
func summary(answers map[string]answer) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if text != "" {
			text += "; "
		}
		if err := answers[name].err; err != nil {
			text += name + ": " + err.Error()
		} else {
			text += name + " waits itself"
		}
	}
	return text
}

// waiting says why this node does not take part yet; nil: it does.
func (c *Cluster) waiting() error {
	select {
	case <-c.joined:
		return nil
	default:
	}
	if why := c.waits.Load(); why != nil {
		return *why
	}
	return fmt.Errorf("the other managers have not been asked yet")
}
