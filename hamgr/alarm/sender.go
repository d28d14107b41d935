package alarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Sender delivers alarms in order. Send may be called by any goroutine, Run by one.
type Sender struct {
	url     string
	dialect Dialect
	log     *slog.Logger
	client  *http.Client
	queue   queue

	tryTimeout time.Duration // of one request
	firstWait  time.Duration // before the second; doubles up to maxWait
	maxWait    time.Duration
	giveUp     time.Duration // after an alarm was queued; each is tried once at least
}

// An Option changes what New sets.
type Option func(*Sender)

// WithDialect has the Sender speak another dialect than Doctor.
func WithDialect(d Dialect) Option { return func(s *Sender) { s.dialect = d } }

// New makes a Sender for an inspector at url, in Doctor's dialect; an empty url drops
// everything.
func New(url string, log *slog.Logger, options ...Option) *Sender {
	s := &Sender{
		url: strings.TrimSuffix(url, "/"), dialect: Doctor, log: log,
		client:     &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}},
		queue:      queue{wake: make(chan struct{}, 1)},
		tryTimeout: time.Second, firstWait: 50 * time.Millisecond, maxWait: 2 * time.Second, giveUp: 30 * time.Second,
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// Send queues the alarm of an event, if it has one. It never waits.
func (s *Sender) Send(e core.Event) {
	a, ok := From(e)
	if !ok || s.url == "" {
		return
	}
	if s.queue.add(waiting{a, time.Now()}) {
		s.log.Warn("an alarm was dropped, the inspector is too slow", "inspector", s.url, "dropped", s.Dropped())
	}
}

// Dropped is how many alarms did not fit into the queue.
func (s *Sender) Dropped() uint64 {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.dropped
}

// Run delivers until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.queue.wake:
		}
		for ctx.Err() == nil {
			w, ok := s.queue.next()
			if !ok {
				break
			}
			s.deliver(ctx, w)
		}
	}
}

// deliver tries until the inspector takes the alarm, refuses it, or it is too old.
func (s *Sender) deliver(ctx context.Context, w waiting) {
	for wait := s.firstWait; ; wait = min(2*wait, s.maxWait) {
		err := s.try(ctx, w.alarm)
		if err == nil || ctx.Err() != nil {
			return
		}
		var no refusal
		if errors.As(err, &no) || time.Since(w.since)+wait > s.giveUp {
			s.log.Warn("alarm not delivered", "inspector", s.url, "type", w.alarm.Type, "domain", w.alarm.Details["domain"], "err", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// refusal is an answer that would be the same the next time.
type refusal string

// Error is the inspector's status line.
func (r refusal) Error() string { return "the inspector refused it: " + string(r) }

func (s *Sender) try(ctx context.Context, a Alarm) error {
	ctx, cancel := context.WithTimeout(ctx, s.tryTimeout)
	defer cancel()
	req, err := s.dialect(s.url, a)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	switch code := resp.StatusCode; {
	case code < 300:
		return nil
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return fmt.Errorf("the inspector answered %s", resp.Status)
	}
	return refusal(resp.Status)
}
