package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/probe"
)

const (
	probeInterval = 2 * time.Second
	probeTimeout  = time.Second
	probeFailures = 3

	minProbeInterval = 100 * time.Millisecond
	maxProbeInterval = time.Hour
	maxProbeTimeout  = 10 * time.Second // of the time that a protect has for all its questions
	maxProbeFailures = 100
	// probeEpochs is how many epochs an answer may take: each of its packets waits for the
	// end of one, and for the commit of that.
	probeEpochs = 8
)

// probeOf is what was asked for, with defaults that allow for the epoch.
func probeOf(q *ProbeRequest, epoch time.Duration) (core.Probe, error) {
	if q == nil {
		return core.Probe{}, nil
	}
	if _, err := probe.Parse(q.URL); err != nil {
		return core.Probe{}, Failure(CodeBadRequest, "tcp://10.0.0.5:80, or http://10.0.0.5/ready, which is to answer with a status below 400", "probe %.80q: %v", q.URL, err)
	}
	least := probeEpochs * epoch
	p := core.Probe{URL: q.URL, Interval: probeInterval, Timeout: max(probeTimeout, least), Failures: probeFailures}
	if q.IntervalMS != 0 {
		p.Interval = milliseconds(q.IntervalMS)
	}
	if q.TimeoutMS != 0 {
		p.Timeout = milliseconds(q.TimeoutMS)
	}
	if q.Failures != 0 {
		p.Failures = q.Failures
	}
	switch {
	case p.Interval < minProbeInterval || p.Interval > maxProbeInterval:
		return p, Failure(CodeBadRequest, "2s is usual", "a probe every %v; it must be from %v to %v", p.Interval, minProbeInterval, maxProbeInterval)
	case least > maxProbeTimeout:
		return p, Failure(CodeBadRequest, "25ms is usual", "a probe and epochs of %v: what the guest answers would be held for longer than a probe may wait, %v", epoch, maxProbeTimeout)
	case p.Timeout < least || p.Timeout > maxProbeTimeout:
		return p, Failure(CodeBadRequest, "1s is usual", "a probe that waits for %v; it must be from %v, as what the guest answers is held for epochs of %v, to %v", p.Timeout, least, epoch, maxProbeTimeout)
	case p.Failures < 1 || p.Failures > maxProbeFailures:
		return p, Failure(CodeBadRequest, "3 is usual", "a probe that counts after %d failures; it must be from 1 to %d", p.Failures, maxProbeFailures)
	}
	return p, nil
}

// milliseconds of a number that may be too large: what it becomes is too large as well.
func milliseconds(n int) time.Duration {
	return time.Duration(min(n, math.MaxInt32)) * time.Millisecond
}

// tryProbe has the guest's host ask once: a probe that cannot work is to be no alarm later.
func (s *Server) tryProbe(ctx context.Context, st core.State, p core.Protection) error {
	if p.Probe.URL == "" {
		return nil
	}
	err := s.peer(st.Nodes[p.Primary].Addr).Do(ctx, http.MethodPost, "/v1/agent/probe", p.Probe, nil)
	if isCode(err, CodeRefused) {
		return Failure(CodeRefused, "is the service up, and has "+p.Primary+" a way into its network?", "%s does not answer its probe from %s: %v", p.Domain, p.Primary, err)
	}
	return err
}

func (s *Server) agentProbe(r *http.Request, in json.RawMessage) (any, error) {
	var p core.Probe
	if err := decode(in, &p); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxProbeTimeout)
	defer cancel()
	if err := s.Agent.Probe(ctx, p); err != nil {
		return nil, Failure(CodeRefused, "", "%v", err)
	}
	return nil, nil
}
