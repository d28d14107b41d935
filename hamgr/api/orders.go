package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/hamgr/hamgr/hamgr/core"
)

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
