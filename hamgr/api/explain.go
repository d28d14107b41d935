package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// explain is the leader's: what it sees is what it decides by.
func (s *Server) explain(r *http.Request, _ json.RawMessage) (any, error) {
	p, err := s.protection(r)
	if err != nil {
		return nil, err
	}
	return core.Explain(s.Cluster.State(), s.view(), p.Domain)
}

// view is what this node sees of the others, as core.Decide wants it. A node that has not
// been heard counts as dead here, without a majority's word.
func (s *Server) view() core.View {
	live := s.liveness()
	v := core.View{
		Now: time.Now(), Alive: []string{s.Node},
		Dead: func(n string) (bool, string) {
			l := live[n]
			return n != s.Node && l.State != alive, n + " is " + stateName(l)
		},
		Silence: func(n string) time.Duration {
			if l := live[n]; l.State == silent && !l.LastHeard.IsZero() {
				return time.Since(l.LastHeard)
			}
			return 0
		},
	}
	for n, l := range live {
		if l.State == alive && n != s.Node {
			v.Alive = append(v.Alive, n)
		}
	}
	return v
}
