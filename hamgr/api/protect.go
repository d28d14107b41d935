package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/agent"
	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	minEpoch         = 5 * time.Millisecond
	maxEpoch         = 10 * time.Second
	preflightTimeout = 15 * time.Second
)

// protect checks everything that can be checked before the guest is touched.
func (s *Server) protect(r *http.Request, in json.RawMessage) (any, error) {
	var q ProtectRequest
	if err := json.Unmarshal(in, &q); err != nil {
		return nil, fail("bad-request", "", "%v", err)
	}
	p, err := s.order(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), preflightTimeout)
	defer cancel()
	st := s.Cluster.State()
	node, info, err := s.find(ctx, st, q.Domain)
	if err != nil {
		return nil, err
	}
	if len(info.Problems) > 0 {
		return nil, fail("refused", "run hamgr check on "+node, "%s cannot be protected: %s", q.Domain, strings.Join(info.Problems, "; "))
	}
	p.Primary, p.UUID, p.Memory = node, info.UUID, info.MemoryBytes
	if p.Backup, err = s.chooseBackup(ctx, st, p, info); err != nil {
		return nil, err
	}
	if err := s.Cluster.Propose(ctx, core.Command{Kind: core.Protect, Domain: p.Domain, Protection: &p, Cause: "asked by operator"}); err != nil {
		return nil, err
	}
	return s.Cluster.State().Protections[p.Domain], nil
}

func (s *Server) order(q ProtectRequest) (core.Protection, error) {
	p := core.Protection{Domain: q.Domain, Pinned: q.Backup, Mode: q.Mode, Epoch: time.Duration(q.EpochMS) * time.Millisecond}
	if p.Epoch == 0 {
		p.Epoch = s.Epoch
	}
	if p.Mode == "" {
		p.Mode = core.Buffer
	}
	if p.Epoch < minEpoch || p.Epoch > maxEpoch {
		return p, fail("bad-request", "", "an epoch of %s; it must be from %s to %s", p.Epoch, minEpoch, maxEpoch)
	}
	if p.Mode != core.Buffer {
		return p, fail("bad-request", "use --mode buffer", "mode %q is not available: only buffer fences the output of a failed primary", p.Mode)
	}
	if old, ok := s.Cluster.State().Protections[q.Domain]; ok {
		return p, fail("conflict", "see hamgr status; hamgr unprotect "+q.Domain+" ends it", "%s is already protected: %s on %s", q.Domain, old.Phase, old.Primary)
	}
	return p, nil
}

// find asks all nodes for a running domain of that name.
func (s *Server) find(ctx context.Context, st core.State, name string) (string, agent.DomainInfo, error) {
	type answer struct {
		info agent.DomainInfo
		err  error
	}
	var mu sync.Mutex
	answers := map[string]answer{}
	var wg sync.WaitGroup
	alive := s.Alive()
	var looked []string
	for _, n := range slices.Sorted(maps.Keys(st.Nodes)) {
		if n != s.Node && alive[n] != "alive" {
			continue
		}
		looked = append(looked, n)
		wg.Go(func() {
			var a answer
			a.err = s.peer(st.Nodes[n].Addr).Do(ctx, "GET", "/v1/agent/domains/"+name, nil, &a.info)
			mu.Lock()
			defer mu.Unlock()
			answers[n] = a
		})
	}
	wg.Wait()
	off := ""
	for _, n := range looked {
		a := answers[n]
		switch {
		case a.err != nil:
		case a.info.Running:
			return n, a.info, nil
		default:
			off = n
		}
	}
	if off != "" {
		return "", agent.DomainInfo{}, fail("conflict", "start it: virsh start "+name, "%s is defined on %s, but %s", name, off, answers[off].info.State)
	}
	return "", agent.DomainInfo{}, fail("not-found", "see virsh list --all on its host, and hamgr node list", "no domain %q on %s", name, strings.Join(looked, ", "))
}

func (s *Server) chooseBackup(ctx context.Context, st core.State, p core.Protection, info agent.DomainInfo) (string, error) {
	names := slices.Sorted(maps.Keys(st.Nodes))
	if p.Pinned != "" {
		if _, ok := st.Nodes[p.Pinned]; !ok {
			return "", fail("not-found", "known nodes: "+strings.Join(names, ", "), "no node %q to be the backup of %s", p.Pinned, p.Domain)
		}
		if p.Pinned == p.Primary {
			return "", fail("conflict", "choose another node, or leave --backup out", "%s runs on %s, which cannot be its own backup", p.Domain, p.Pinned)
		}
		names = []string{p.Pinned}
	}
	alive := s.Alive()
	var why []string
	for _, n := range names {
		if n == p.Primary {
			continue
		}
		if n != s.Node && alive[n] != "alive" {
			why = append(why, n+" is "+alive[n])
			continue
		}
		err := s.peer(st.Nodes[n].Addr).Do(ctx, "POST", "/v1/agent/backup-check", agent.BackupRequest{
			Domain: p.Domain, UUID: info.UUID, MemoryBytes: info.MemoryBytes, QEMUVersion: info.QEMUVersion, Emulator: info.Emulator}, nil)
		if err == nil {
			return n, nil
		}
		why = append(why, n+": "+err.Error())
	}
	if len(why) == 0 {
		why = []string{"there is no other node"}
	}
	return "", fail("refused", "see hamgr node list, and hamgr check on the nodes", "no backup for %s: %s", p.Domain, strings.Join(why, "; "))
}

func (s *Server) unprotect(r *http.Request, _ json.RawMessage) (any, error) {
	name := r.PathValue("domain")
	p, ok := s.Cluster.State().Protections[name]
	if !ok {
		return nil, fail("not-found", "see hamgr status", "%s is not protected", name)
	}
	return nil, s.Cluster.Propose(r.Context(), core.Command{Kind: core.Unprotect, Domain: name, Generation: p.Generation, Cause: "asked by operator"})
}

func (s *Server) failover(r *http.Request, _ json.RawMessage) (any, error) {
	name := r.PathValue("domain")
	p, ok := s.Cluster.State().Protections[name]
	if !ok {
		return nil, fail("not-found", "see hamgr status", "%s is not protected", name)
	}
	err := s.Cluster.Propose(r.Context(), core.Command{Kind: core.FailOver, Domain: name, Generation: p.Generation, Cause: "asked by operator"})
	if errors.Is(err, core.ErrWrongPhase) {
		return nil, fail("conflict", "wait until hamgr status says protected", "%s has no committed checkpoint to fail over to: it is %s", name, p.Phase)
	}
	return nil, err
}
