package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

const (
	// leaderWait bounds how long a request waits for a leader to be elected.
	leaderWait = 5 * time.Second
	leaderPoll = 20 * time.Millisecond
	// forwardTimeout is more than the leader needs for its own bounded work.
	forwardTimeout = preflightTimeout + 5*time.Second
	// catchUpTimeout bounds the wait for a change that the leader has made to arrive here.
	catchUpTimeout = 2 * time.Second
)

// onLeader runs h on the leader: here, or by sending the request there.
func (s *Server) onLeader(h handler) http.HandlerFunc { return s.onLeaderTaking(maxRequest, h) }

// onLeaderTaking is onLeader for requests of up to so many octets.
func (s *Server) onLeaderTaking(limit int64, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, err := body(w, r, limit)
		if err != nil {
			reply(w, nil, err)
			return
		}
		out, err := s.lead(r, in, h)
		w.Header().Set(indexSeen, strconv.FormatUint(s.Cluster.State().Index, 10))
		reply(w, out, err)
	}
}

// lead tries until somebody leads. It tries again only what surely had no effect.
func (s *Server) lead(r *http.Request, in json.RawMessage, h handler) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.leaderWait)
	defer cancel()
	why := "no manager leads"
	for {
		if s.Cluster.IsLeader() {
			out, err := h(r, in)
			if !isCode(err, CodeNotLeader) {
				return out, err
			}
			why = err.Error()
		}
		if r.Header.Get(forwarded) != "" {
			return nil, Failure(CodeNotLeader, "try again", "%s does not lead", s.Node)
		}
		if name, addr := s.Cluster.Leader(); addr != "" && name != s.Node {
			out, err := s.forward(r, in, name, addr)
			if !unsent(err) {
				return out, err
			}
			why = name + " led last: " + err.Error()
		}
		select {
		case <-ctx.Done():
			return nil, Failure(CodeUnreachable, "more than half of the managers must run and reach each other; see hamgr node list", "%s", why)
		case <-time.After(leaderPoll):
		}
	}
}

func unsent(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == CodeUnreachable || e.Code == CodeNotLeader)
}

// forward sends the request to the leader and waits until its effect is seen here too, so
// that who asks this node next is not told of the past.
func (s *Server) forward(r *http.Request, in json.RawMessage, name, addr string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(r.Context(), forwardTimeout)
	defer cancel()
	ctx, deposed := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.watchLeader(ctx, name, deposed)
	}()
	var out json.RawMessage
	index, err := s.peer(addr).do(ctx, r.Method, r.URL.RequestURI(), in, &out, true)
	cause := context.Cause(ctx)
	deposed(nil)
	<-done
	var e *Error
	if errors.As(cause, &e) && errors.Is(err, context.Canceled) {
		return nil, e
	}
	if err == nil {
		s.catchUp(r.Context(), index)
	}
	return out, err
}

// watchLeader ends the wait for a leader that has been replaced: a host that lost its
// power in the middle of a request does not even refuse it.
func (s *Server) watchLeader(ctx context.Context, name string, deposed context.CancelCauseFunc) {
	tick := time.NewTicker(leaderPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, _ := s.Cluster.Leader(); now != "" && now != name {
			deposed(Failure(CodeUnknown, "hamgr status shows what has come of it", "%s took the request but leads no more, %s does", name, now))
			return
		}
	}
}

func (s *Server) catchUp(ctx context.Context, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	changed, stop := s.Cluster.Watch()
	defer stop()
	for s.Cluster.State().Index < index {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
