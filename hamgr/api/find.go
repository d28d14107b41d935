package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// othersTime is what the other nodes get to answer once one has said the domain runs
// there: enough to see it running twice, without waiting for a node that hangs.
const othersTime = time.Second

// found is one node's answer.
type found struct {
	node string
	info DomainInfo
	err  error
}

// find asks all living nodes at once for a running domain of that name.
func (s *Server) find(ctx context.Context, st core.State, name string) (string, DomainInfo, error) {
	ask, skipped := s.askable(st)
	var running []found
	var off, without, failed []string
	for _, f := range s.askAll(ctx, st, ask, name) {
		switch {
		case f.err == nil && f.info.Running:
			running = append(running, f)
		case f.err == nil:
			off = append(off, f.node+", but "+f.info.State)
		case isCode(f.err, CodeNotFound):
			without = append(without, f.node)
		default:
			failed = append(failed, f.node+": "+f.err.Error())
		}
	}
	switch {
	case len(running) == 1:
		return running[0].node, running[0].info, nil
	case len(running) > 1:
		return "", DomainInfo{}, Failure(CodeConflict, "two guests cannot share a name; stop or rename one", "%s runs on both %s and %s", name, running[0].node, running[1].node)
	case len(off) > 0:
		return "", DomainInfo{}, Failure(CodeConflict, "virsh start or virsh resume it there", "%s is defined on %s", name, strings.Join(off, "; on "))
	case len(failed) > 0:
		return "", DomainInfo{}, Failure(CodeFailed, "see hamgr check and the log of hamgr there", "%s was not found, but not all nodes could say: %s", name, strings.Join(append(failed, skipped...), "; "))
	case len(skipped) > 0:
		return "", DomainInfo{}, Failure(CodeNotFound, "see hamgr node list", "no domain %q on %s; not asked: %s", name, strings.Join(without, ", "), strings.Join(skipped, "; "))
	}
	return "", DomainInfo{}, Failure(CodeNotFound, "see virsh list --all on its host, and hamgr node list", "no domain %q on %s", name, strings.Join(without, ", "))
}

func (s *Server) askable(st core.State) (ask, skipped []string) {
	live := s.liveness()
	for _, n := range slices.Sorted(maps.Keys(st.Nodes)) {
		if l := live[n]; n == s.Node || l.reachable() {
			ask = append(ask, n)
		} else {
			skipped = append(skipped, n+" is "+stateName(l))
		}
	}
	return ask, skipped
}

// askAll returns the answers in the order of names. A node that is cut short by
// othersTime has none.
func (s *Server) askAll(ctx context.Context, st core.State, names []string, domain string) []found {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan found, len(names))
	path := "/v1/agent/domains/" + url.PathEscape(domain)
	if e, ok := st.Ended[domain]; ok { // hosts that had it may have copies of it to end
		path += "?index=" + strconv.FormatUint(e.Index, 10)
	}
	for _, n := range names {
		go func() {
			f := found{node: n}
			f.err = s.peer(st.Nodes[n].Addr).Do(ctx, http.MethodGet, path, nil, &f.info)
			answers <- f
		}()
	}
	var list []found
	for range names {
		f := <-answers
		if f.err == nil && f.info.Running {
			stop := time.AfterFunc(othersTime, cancel)
			defer stop.Stop()
		}
		if !errors.Is(f.err, context.Canceled) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.node, b.node) })
	return list
}

func isCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}
