package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
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
