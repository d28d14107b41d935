package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
)

// managersMost is five and one more, while one of them is replaced: each decision waits for
// more than half of them.
const managersMost = 6

// Managers are who votes in the cluster.
type Managers struct {
	Managers []NodeStatus `json:"managers"`
	Majority int          `json:"majority"`          // so many of them decide
	Warning  string       `json:"warning,omitempty"` // what an operator should know about them
}

func (s *Server) managers(*http.Request, json.RawMessage) (any, error) {
	return s.managersOf(s.Cluster.State()), nil
}

func (s *Server) managersOf(st core.State) Managers {
	out := Managers{Managers: []NodeStatus{}, Majority: core.Majority(len(st.Managers))}
	nodes := map[string]NodeStatus{}
	for _, n := range s.nodeList(st) {
		nodes[n.Name] = n
	}
	live := s.liveness()
	up := 0
	for _, name := range st.Voters() {
		n, registered := nodes[name]
		if !registered {
			n = NodeStatus{Node: core.Node{Name: name, Addr: st.Managers[name]}, Manager: true, State: stateName(live[name])}
		}
		if n.State == alive {
			up++
		}
		out.Managers = append(out.Managers, n)
	}
	switch total := len(st.Managers); {
	case total > 0 && up <= out.Majority && up < total:
		out.Warning = fmt.Sprintf("%d of %d managers are alive, and %d must be: no more may fail", up, total, out.Majority)
	case total > 0 && total%2 == 0:
		out.Warning = fmt.Sprintf("%d managers survive no more failures than %d", total, total-1)
	}
	return out
}

// addManager gives a node a vote.
func (s *Server) addManager(r *http.Request, _ json.RawMessage) (any, error) {
	name, st := r.PathValue("node"), s.Cluster.State()
	n, known := st.Nodes[name]
	if !known {
		return nil, unknownNode(name)
	}
	if _, manager := st.Managers[name]; manager {
		return nil, Failure(CodeConflict, "see hamgr manager list", "%s is a manager already", name)
	}
	if state := s.stateOf(name); state != alive {
		return nil, Failure(CodeConflict, "a manager has to run; see hamgr node list", "%s is %s", name, state)
	}
	after := append(st.Voters(), name)
	if len(after) > managersMost {
		return nil, Failure(CodeConflict, "remove one first; 3 or 5 are usual", "there are %d managers, and more make each decision slower", len(st.Managers))
	}
	if err := s.canDecide(after, "with "+name); err != nil {
		return nil, err
	}
	if err := s.followed(r.Context(), n, st.Index); err != nil {
		return nil, err
	}
	if err := s.Cluster.AddManager(r.Context(), name, byOperator); err != nil {
		return nil, s.unchanged(r.Context(), err)
	}
	return s.managersOf(s.Cluster.State()), nil
}

// codeLeads: the node is to hand over first.
const codeLeads = "leads"

// dismiss takes a node's vote away, unless it is this one's.
func (s *Server) dismiss(r *http.Request, _ json.RawMessage) (any, error) {
	name, st := r.PathValue("node"), s.Cluster.State()
	if _, manager := st.Managers[name]; !manager {
		if _, known := st.Nodes[name]; !known {
			return nil, unknownNode(name)
		}
		return nil, Failure(CodeConflict, "see hamgr manager list", "%s is not a manager", name)
	}
	after := slices.DeleteFunc(st.Voters(), func(n string) bool { return n == name })
	if len(after) == 0 {
		return nil, Failure(CodeConflict, "hamgr manager add another first", "%s is the only manager", name)
	}
	if err := s.canDecide(after, "without "+name); err != nil {
		return nil, err
	}
	if name == s.Node {
		return nil, Failure(codeLeads, "hamgr manager remove it again", "%s leads", name)
	}
	if err := s.Cluster.RemoveManager(r.Context(), name, byOperator); err != nil {
		return nil, s.unchanged(r.Context(), err)
	}
	return s.managersOf(s.Cluster.State()), nil
}

// removeManager is dismiss on the leader. If that is the one to go, it hands over first; the
// node that was asked sees to this, as the leader's own answer would come from a former one.
func (s *Server) removeManager(w http.ResponseWriter, r *http.Request) {
	in, err := body(w, r, maxRequest)
	if err != nil {
		reply(w, nil, err)
		return
	}
	out, err := s.lead(r, in, s.dismiss)
	if isCode(err, codeLeads) && r.Header.Get(forwarded) == "" {
		if err = s.askHandOver(r.Context(), r.PathValue("node")); err == nil {
			out, err = s.lead(r, in, s.dismiss)
		}
	}
	w.Header().Set(indexSeen, strconv.FormatUint(s.Cluster.State().Index, 10))
	reply(w, out, err)
}

// canDecide says why such managers could not decide anything now, the change that makes
// them the managers first of all.
func (s *Server) canDecide(managers []string, how string) error {
	var down []string
	for _, m := range managers {
		if state := s.stateOf(m); state != alive {
			down = append(down, m+" is "+state)
		}
	}
	up := len(managers) - len(down)
	if up >= core.Majority(len(managers)) {
		return nil
	}
	return Failure(CodeConflict, "see hamgr manager list", "%s there are %d managers, of whom %d must be alive, and %d are: %s",
		how, len(managers), core.Majority(len(managers)), up, strings.Join(down, ", "))
}

// unchanged is what a failed change of the managers comes to.
func (s *Server) unchanged(ctx context.Context, err error) error {
	if errors.Is(err, cluster.ErrChanging) {
		return Failure(CodeConflict, "they are changed by one at a time; try again", "%v", err)
	}
	return s.unsettled(ctx, err)
}

func unknownNode(name string) error {
	return Failure(CodeNotFound, "see hamgr node list", "no node %q", name)
}

func (s *Server) stateOf(name string) string {
	if name == s.Node {
		return alive
	}
	return stateName(s.liveness()[name])
}
