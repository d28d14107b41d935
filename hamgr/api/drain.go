package api

import (
	"encoding/json"
	"net/http"

	"github.com/hamgr/hamgr/hamgr/core"
)

// drain has a node emptied, undrain used again; the leader does it, guest by guest.
func (s *Server) drain(r *http.Request, _ json.RawMessage) (any, error) {
	return s.setDrained(r, core.Drain)
}

func (s *Server) undrain(r *http.Request, _ json.RawMessage) (any, error) {
	return s.setDrained(r, core.Undrain)
}

func (s *Server) setDrained(r *http.Request, kind core.Kind) (any, error) {
	name := r.PathValue("node")
	if _, ok := s.Cluster.State().Nodes[name]; !ok {
		return nil, unknownNode(name)
	}
	err := s.agree(r.Context(), core.Command{Kind: kind, Node: &core.Node{Name: name}, Cause: byOperator})
	if err != nil {
		return nil, err
	}
	return s.Cluster.State().Nodes[name], nil
}
