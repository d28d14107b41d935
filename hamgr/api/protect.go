package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	minEpoch = 5 * time.Millisecond
	maxEpoch = 10 * time.Second
	maxGroup = 64
	// preflightTimeout is for all the questions of one protect; a probe of QEMU may take 10 s.
	preflightTimeout = 15 * time.Second

	byOperator = "asked by operator"
)

// protect checks everything that can be checked before the guest is touched.
func (s *Server) protect(r *http.Request, in json.RawMessage) (any, error) {
	var q ProtectRequest
	if err := decode(in, &q); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), preflightTimeout)
	defer cancel()
	st := s.Cluster.State()
	if st.Index == 0 {
		return nil, Failure(CodeUnreachable, "try again in a moment", "%s leads, but has not caught up with the cluster yet", s.Node)
	}
	p, err := s.order(q, st)
	if err != nil {
		return nil, err
	}
	node, info, err := s.find(ctx, st, q.Domain)
	if err != nil {
		return nil, err
	}
	if len(info.Problems) > 0 {
		return nil, Failure(CodeRefused, "run hamgr check on "+node, "%s on %s cannot be protected: %s", q.Domain, node, strings.Join(info.Problems, "; "))
	}
	p.Primary, p.UUID, p.Memory = node, info.UUID, info.MemoryBytes
	if err := s.tryProbe(ctx, st, p); err != nil {
		return nil, err
	}
	if p.Backup, err = s.chooseBackup(ctx, st, p, info); err != nil {
		return nil, err
	}
	c := core.Command{Kind: core.Protect, Domain: p.Domain, Protection: &p, Cause: byOperator}
	if p.OnLoss == core.OnLossRestart {
		path := "/v1/agent/domains/" + url.PathEscape(p.Domain) + "/definition"
		if err := s.peer(st.Nodes[node].Addr).Do(ctx, http.MethodGet, path, nil, &c.Definition); err != nil {
			return nil, err
		}
	}
	if err := s.agree(ctx, c); err != nil {
		return nil, err
	}
	return s.Cluster.State().Protections[p.Domain], nil
}

// order is the request as a protection that still lacks its hosts.
func (s *Server) order(q ProtectRequest, st core.State) (core.Protection, error) {
	p := core.Protection{Domain: q.Domain, Pinned: q.Backup, Mode: q.Mode, Epoch: s.Epoch, OnLoss: q.OnLoss, AntiAffinity: q.AntiAffinity}
	p.Input = q.Input == nil || *q.Input
	if p.Mode == "" {
		p.Mode = core.Buffer
	}
	if p.Epoch == 0 {
		p.Epoch = core.DefaultEpoch
	}
	if q.EpochMS != 0 {
		p.Epoch = time.Duration(q.EpochMS) * time.Millisecond
	}
	switch old, protected := st.Protections[q.Domain]; {
	case q.Domain == "":
		return p, Failure(CodeBadRequest, "name it as in virsh list", "protect: no domain is named")
	case p.Epoch < minEpoch || p.Epoch > maxEpoch || q.EpochMS > int(maxEpoch.Milliseconds()):
		return p, Failure(CodeBadRequest, "25ms is usual", "an epoch of %d ms; it must be from %s to %s", q.EpochMS, minEpoch, maxEpoch)
	case p.Mode != core.Buffer && p.Mode != core.Checkpoint:
		return p, noMode(p.Mode)
	case p.OnLoss != "" && p.OnLoss != core.OnLossStop && p.OnLoss != core.OnLossRestart:
		return p, Failure(CodeBadRequest, "stop leaves a lost guest to you; restart starts it anew on another host, without its memory", "there is no policy %q for a loss, only %s and %s", p.OnLoss, core.OnLossStop, core.OnLossRestart)
	case len(p.AntiAffinity) > maxGroup || strings.ContainsFunc(p.AntiAffinity, notPrinted):
		return p, Failure(CodeBadRequest, "a word such as web", "%.80q cannot name an anti-affinity group: at most %d letters, digits and signs", p.AntiAffinity, maxGroup)
	case protected:
		return p, Failure(CodeConflict, "hamgr status shows it, hamgr unprotect "+q.Domain+" ends it",
			"%s is already protected: %s, %s -> %s", q.Domain, old.Phase, old.Primary, orNone(old.Backup))
	}
	var err error
	p.Probe, err = probeOf(q.Probe, p.Epoch)
	return p, err
}

func notPrinted(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }

func noMode(m core.Mode) error {
	return Failure(CodeBadRequest, "buffer holds output until it is committed; checkpoint does not, and may roll back what was seen",
		"there is no mode %q, only %s and %s", m, core.Buffer, core.Checkpoint)
}

func orNone(node string) string {
	if node == "" {
		return "no backup"
	}
	return node
}

// chooseBackup takes the first candidate that agrees.
func (s *Server) chooseBackup(ctx context.Context, st core.State, p core.Protection, info DomainInfo) (string, error) {
	candidates, err := candidates(st, p)
	if err != nil {
		return "", err
	}
	live := s.liveness()
	why := []string{}
	for _, n := range candidates {
		if st.Nodes[n].Drained {
			why = append(why, n+" is drained")
			continue
		}
		if l := live[n]; n != s.Node && !l.reachable() {
			why = append(why, n+" is "+stateName(l))
			continue
		}
		err := s.peer(st.Nodes[n].Addr).Do(ctx, http.MethodPost, "/v1/agent/backup-check", BackupRequest{
			Domain: p.Domain, UUID: info.UUID, MemoryBytes: info.MemoryBytes, QEMUVersion: info.QEMUVersion, Emulator: info.Emulator}, nil)
		if err == nil {
			return n, nil
		}
		why = append(why, n+": "+err.Error())
	}
	if len(why) == 0 {
		why = append(why, p.Primary+" is the only node")
	}
	return "", Failure(CodeRefused, "see hamgr node list, and hamgr check on the backup", "no backup for %s: %s", p.Domain, strings.Join(why, "; "))
}

func candidates(st core.State, p core.Protection) ([]string, error) {
	names := slices.Sorted(maps.Keys(st.Nodes))
	if p.Pinned != "" {
		if _, ok := st.Nodes[p.Pinned]; !ok {
			return nil, Failure(CodeNotFound, "known nodes: "+strings.Join(names, ", "), "no node %q to be the backup of %s", p.Pinned, p.Domain)
		}
		if p.Pinned == p.Primary {
			return nil, Failure(CodeConflict, "choose another node, or leave --backup out", "%s runs on %s, which cannot be its own backup", p.Domain, p.Pinned)
		}
		return []string{p.Pinned}, nil
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == p.Primary })
	core.Prefer(st, p, names)
	return names, nil
}

func stateName(l NodeLiveness) string {
	if l.State == "" {
		return "not heard of yet"
	}
	return l.State
}

// unprotect ends a protection whatever it has come to: generation 0.
func (s *Server) unprotect(r *http.Request, _ json.RawMessage) (any, error) {
	p, err := s.protection(r)
	if err != nil {
		return nil, err
	}
	return nil, s.agree(r.Context(), core.Command{Kind: core.Unprotect, Domain: p.Domain, Cause: byOperator})
}

// change asks for another mode; the primary puts it in force.
func (s *Server) change(r *http.Request, in json.RawMessage) (any, error) {
	var q ChangeRequest
	if err := decode(in, &q); err != nil {
		return nil, err
	}
	p, err := s.protection(r)
	if err != nil {
		return nil, err
	}
	if q.Mode != core.Buffer && q.Mode != core.Checkpoint {
		return nil, noMode(q.Mode)
	}
	err = s.agree(r.Context(), core.Command{Kind: core.WantMode, Domain: p.Domain, Generation: p.Generation, Mode: q.Mode, Cause: byOperator})
	if err != nil {
		return nil, err
	}
	return s.Cluster.State().Protections[p.Domain], nil
}

// failover moves a domain to its backup: handed over by its primary at a checkpoint, so
// that nothing is lost, or at once, from the last one.
func (s *Server) failover(r *http.Request, in json.RawMessage) (any, error) {
	var q FailoverRequest
	if err := decode(in, &q); err != nil {
		return nil, err
	}
	p, err := s.protection(r)
	if err != nil {
		return nil, err
	}
	if p.Phase != core.Protected {
		return nil, Failure(CodeConflict, "wait until hamgr status says protected", "%s has no committed checkpoint to fail over to: it is %s", p.Domain, p.Phase)
	}
	if l := s.liveness()[p.Backup]; p.Backup != s.Node && l.State != alive {
		return nil, Failure(CodeConflict, "see hamgr node list", "%s cannot move to its backup: %s is %s", p.Domain, p.Backup, stateName(l))
	}
	c := core.Command{Kind: core.Move, Domain: p.Domain, Generation: p.Generation, Cause: byOperator}
	if q.Now {
		c.Kind = core.FailOver
	}
	err = s.agree(r.Context(), c)
	if errors.Is(err, core.ErrUnfenced) {
		return nil, Failure("unfenced", "leave --now out: then its primary hands it over", "%s cannot be taken from %s: in mode checkpoint its output there is not held, and both would speak", p.Domain, p.Primary)
	}
	if err != nil {
		return nil, err
	}
	return s.Cluster.State().Protections[p.Domain], nil
}

func (s *Server) protection(r *http.Request) (core.Protection, error) {
	name := r.PathValue("domain")
	p, ok := s.Cluster.State().Protections[name]
	if !ok {
		return p, Failure(CodeNotFound, "see hamgr status", "%s is not protected", name)
	}
	return p, nil
}
