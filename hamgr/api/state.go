package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/saved"
)

// RestoreRequest asks for what a saved state orders, in a cluster that protects nothing.
type RestoreRequest struct {
	File    json.RawMessage `json:"file"`              // package saved
	Without []string        `json:"without,omitempty"` // nodes that are switched off, by the operator's word
}

// RestoreResult says what came of each guest of a saved state.
type RestoreResult struct {
	Restored []core.Protection `json:"restored"`
	Left     []LeftGuest       `json:"left"`
}

// LeftGuest is a guest that is left as it is, and why.
type LeftGuest struct {
	Domain string `json:"domain"`
	Why    string `json:"why"`
}

const (
	// surveyTimeout is for what all hosts have to say of their guests.
	surveyTimeout = 15 * time.Second
	// dyingTimeout is more than libvirt takes to notice the end of a QEMU.
	dyingTimeout = 2 * time.Second
	dyingPoll    = 100 * time.Millisecond
)

// saveState answers with the file.
func (s *Server) saveState(r *http.Request, _ json.RawMessage) (any, error) {
	st, err := s.settled(r.Context())
	if err != nil {
		return nil, err
	}
	data, err := saved.Encode(saved.State{Cluster: s.Name, Index: st.Index, Time: time.Now().UTC(), State: st})
	return json.RawMessage(data), err
}

func (s *Server) settled(ctx context.Context) (core.State, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	st, err := s.Cluster.Settled(ctx)
	switch {
	case errors.Is(err, cluster.ErrNotLeader):
		return st, Failure(CodeNotLeader, "try again", "%s leads no more", s.Node)
	case err != nil:
		return st, Failure(CodeUnreachable, "more than half of the managers must run and reach each other", "%v", err)
	case st.Index == 0 || len(st.Nodes) == 0:
		return st, Failure(CodeUnreachable, "try again in a moment", "no node has registered yet")
	}
	return st, nil
}

// restoreState puts the orders of a saved state in force again for those guests of which
// the hosts say where they are (core.Recall). It decides by one state and proposes one command.
func (s *Server) restoreState(r *http.Request, in json.RawMessage) (any, error) {
	var q RestoreRequest
	if err := decode(in, &q); err != nil {
		return nil, err
	}
	file, err := s.savedState(q.File)
	if err != nil {
		return nil, err
	}
	now, err := s.settled(r.Context())
	if err != nil {
		return nil, err
	}
	if names := slices.Sorted(maps.Keys(now.Protections)); len(names) > 0 {
		return nil, Failure(CodeConflict, "what runs is newer than what was saved; hamgr protect those that are missing",
			"this cluster protects %s already; a saved state is for one that protects nothing", strings.Join(names, ", "))
	}
	c, left, err := s.recall(r.Context(), file.State, now, q.Without)
	if err != nil {
		return nil, err
	}
	c.Cause = fmt.Sprintf("the state of %s (index %d) was restored", file.Time.Format(time.RFC3339), file.Index)
	if err := s.agree(r.Context(), c); err != nil {
		return nil, err
	}
	return s.restored(c, left), nil
}

// recall asks the hosts again while they leave a guest out: a standby ends with its hamgr, but
// libvirt takes a moment to notice, and until then it looks like a second copy.
func (s *Server) recall(ctx context.Context, before, now core.State, without []string) (c core.Command, left map[string]string, err error) {
	for end := time.Now().Add(dyingTimeout); ; {
		seen, err := s.survey(ctx, before, now, without)
		if err != nil {
			return c, nil, err
		}
		if c, left = core.Recall(before, now, seen); len(left) == 0 || time.Now().After(end) {
			return c, left, nil
		}
		select {
		case <-ctx.Done():
			return c, nil, ctx.Err()
		case <-time.After(dyingPoll):
		}
	}
}

func (s *Server) savedState(data []byte) (saved.State, error) {
	file, err := saved.Decode(data)
	switch {
	case errors.Is(err, saved.ErrVersion):
		return file, Failure(CodeRefused, "use the hamgr that saved it, or a newer one", "the saved state is %v", err)
	case err != nil:
		return file, Failure(CodeRefused, "take another file of hamgr state save", "the saved state is %v", err)
	case file.Cluster != s.Name:
		return file, Failure(CodeRefused, "its hosts are others; see cluster: in hamgr.yaml", "the saved state is of the cluster %q, this one is %q", file.Cluster, s.Name)
	}
	return file, nil
}

func (s *Server) restored(c core.Command, left map[string]string) RestoreResult {
	out := RestoreResult{Restored: []core.Protection{}, Left: []LeftGuest{}}
	st := s.Cluster.State()
	for _, p := range c.Reinstate.Protections {
		out.Restored = append(out.Restored, st.Protections[p.Domain])
	}
	for name, why := range left {
		out.Left = append(out.Left, LeftGuest{name, why})
	}
	slices.SortFunc(out.Left, func(a, b LeftGuest) int { return cmp.Compare(a.Domain, b.Domain) })
	return out
}

// survey asks every host of the old cluster and of this one what it knows of its guests.
// None may be missing but those that are switched off: its guests would be left out.
func (s *Server) survey(ctx context.Context, before, now core.State, without []string) ([]core.Sighting, error) {
	hosts, err := surveyed(before, now, without)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	answers, errs := make([][]core.Sighting, len(hosts)), make([]error, len(hosts))
	gather(hosts, func(name string) {
		i := slices.Index(hosts, name)
		errs[i] = s.peer(now.Nodes[name].Addr).Do(ctx, http.MethodGet, "/v1/agent/sightings", nil, &answers[i])
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", name, errs[i])
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, Failure(CodeFailed, "see the log of hamgr there; a host that is switched off may be left out, --without NODE", "not every host can say what it runs: %s", oneLine(err))
	}
	return slices.Concat(answers...), nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// surveyed are the hosts to ask. Each that the old cluster had is to be there again.
func surveyed(before, now core.State, without []string) (hosts []string, err error) {
	known := maps.Clone(before.Nodes)
	maps.Copy(known, now.Nodes)
	for _, name := range without {
		if _, ok := known[name]; !ok {
			return nil, Failure(CodeNotFound, "see hamgr node list", "--without %s: there is no such node, nor was there when the state was saved", name)
		}
		delete(known, name)
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, ok := now.Nodes[name]; !ok {
			missing = append(missing, name)
		}
		hosts = append(hosts, name)
	}
	if len(missing) > 0 {
		return nil, Failure(CodeConflict, "start hamgr there, with an empty data directory; a host that is switched off may be left out, --without NODE",
			"not registered, and known to the saved state: %s", strings.Join(missing, ", "))
	}
	return hosts, nil
}
