package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
)

const (
	// followWait is what a node gets to catch up before it becomes a manager.
	followWait = 5 * time.Second
	// handOverTimeout is more than a manager takes to be elected.
	handOverTimeout = 5 * time.Second
)

// blank is for a node that starts without its log.
func (s *Server) blank(r *http.Request, in json.RawMessage) (any, error) {
	var n core.Node
	if err := decode(in, &n); err != nil {
		return nil, err
	}
	if n.Name == "" || n.ID == "" || n.Addr == "" || n.Name != r.PathValue("node") {
		return nil, Failure(CodeBadRequest, "", "a node with name, id and address, please")
	}
	return nil, s.unchanged(r.Context(), s.Cluster.Blank(r.Context(), n))
}

func (s *Server) standing(*http.Request, json.RawMessage) (any, error) {
	return s.Cluster.Standing(), nil
}

// followed waits until a node has what was decided up to index: one that lags would have
// the others wait.
func (s *Server) followed(ctx context.Context, n core.Node, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, followWait)
	defer cancel()
	for {
		var at cluster.Standing
		err := s.peer(n.Addr).Do(ctx, http.MethodGet, "/v1/standing", nil, &at)
		if err == nil && at.Applied >= index {
			return nil
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return Failure(CodeConflict, "try again; see its log if that does not help", "%s has followed the cluster up to %d only, of %d", n.Name, at.Applied, index)
		case <-time.After(leaderPoll):
		}
	}
}

func (s *Server) askHandOver(ctx context.Context, name string) error {
	addr := s.Cluster.State().Managers[name]
	return s.peer(addr).Do(ctx, http.MethodPost, "/v1/hand-over", nil, nil)
}

// handOver has another manager lead, if this one does: a living one, the first by name.
func (s *Server) handOver(r *http.Request, _ json.RawMessage) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), handOverTimeout)
	defer cancel()
	var last error
	for _, heir := range s.Cluster.State().Voters() {
		if heir == s.Node || s.stateOf(heir) != alive {
			continue
		}
		if !s.Cluster.IsLeader() {
			return nil, nil
		}
		if last = s.Cluster.HandOver(ctx, heir); last == nil {
			return nil, nil
		}
	}
	return nil, Failure(CodeConflict, "see hamgr manager list", "%s leads, and no other manager took over (%v)", s.Node, last)
}

// Managers asks for them.
func (c *Client) Managers(ctx context.Context) (m Managers, err error) {
	err = c.Do(ctx, http.MethodGet, "/v1/managers", nil, &m)
	return m, err
}

// AddManager gives a node a vote, RemoveManager takes it away; both return the new ones.
func (c *Client) AddManager(ctx context.Context, node string) (m Managers, err error) {
	err = c.Do(ctx, http.MethodPost, managerPath(node), nil, &m)
	return m, err
}

// RemoveManager is AddManager's opposite.
func (c *Client) RemoveManager(ctx context.Context, node string) (m Managers, err error) {
	err = c.Do(ctx, http.MethodDelete, managerPath(node), nil, &m)
	return m, err
}

// Standing asks how far a node's part in a cluster has got.
func (c *Client) Standing(ctx context.Context) (st cluster.Standing, err error) {
	err = c.Do(ctx, http.MethodGet, "/v1/standing", nil, &st)
	return st, err
}

// Blank tells the leader that n starts without its log.
func (c *Client) Blank(ctx context.Context, n core.Node) error {
	return c.Do(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(n.Name)+"/blank", n, nil)
}

func managerPath(node string) string { return "/v1/managers/" + url.PathEscape(node) }
