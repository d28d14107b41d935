// Package alarm tells an inspector what happened, as OPNFV Doctor's sample inspector
// takes it: PUT {url}/events, a bare JSON list. It never delays what it reports.
package alarm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// HostDown is the only type on which Doctor's sample inspector acts: it takes the host
// out of service. It is sent for a dead host and for nothing else.
const HostDown = "compute.host.down"

// Alarm is one event of the list.
type Alarm struct {
	Time    string            `json:"time"` // UTC, ISO 8601
	Type    string            `json:"type"`
	Details map[string]string `json:"details"`
}

// From makes the alarm of an event; ok is false for events nobody is alarmed by.
func From(e core.Event) (a Alarm, ok bool) {
	d := map[string]string{
		"hostname": e.Node, "monitor": "hamgr", "monitor_event_id": fmt.Sprintf("hamgr-%d", e.Index),
		"domain": e.Domain, "target": e.Target, "generation": fmt.Sprint(e.Generation), "cause": e.Cause,
	}
	switch e.Kind {
	case core.FailOver:
		a.Type, d["status"], d["severity"] = HostDown, "down", "CRITICAL"
		if strings.HasPrefix(e.Cause, "QEMU ") || strings.HasPrefix(e.Cause, "asked ") {
			a.Type = "hamgr.protection.failover" // the host lives
		}
	case core.GoSolo:
		a.Type, d["status"], d["severity"] = "hamgr.protection.solo", "down", "MAJOR"
	case core.Synced:
		a.Type, d["status"], d["severity"] = "hamgr.protection.protected", "up", "CLEARED"
	case core.MarkLost:
		a.Type, d["status"], d["severity"] = "hamgr.protection.lost", "down", "CRITICAL"
	default:
		return a, false
	}
	a.Time, a.Details = e.Time.UTC().Format("2006-01-02T15:04:05.000000"), d
	return a, true
}

const (
	queueLength = 256
	tryTimeout  = time.Second
	giveUpAfter = 30 * time.Second
)

// Sender delivers alarms in order.
type Sender struct {
	url   string
	queue chan Alarm
	log   *slog.Logger
}

// New makes a Sender for an inspector at url; an empty url drops everything.
func New(url string, log *slog.Logger) *Sender {
	return &Sender{url: strings.TrimSuffix(url, "/"), queue: make(chan Alarm, queueLength), log: log}
}

// Send queues the alarm of an event, if it has one. It never waits: an inspector that is
// 256 alarms behind loses the newest, which is logged.
func (s *Sender) Send(e core.Event) {
	a, ok := From(e)
	if !ok || s.url == "" {
		return
	}
	select {
	case s.queue <- a:
	default:
		s.log.Warn("alarm dropped, the inspector is too slow", "type", a.Type, "domain", e.Domain)
	}
}

// Run delivers until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.queue:
			s.deliver(ctx, a)
		}
	}
}

func (s *Sender) deliver(ctx context.Context, a Alarm) {
	ctx, cancel := context.WithTimeout(ctx, giveUpAfter)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := s.put(ctx, a)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.log.Warn("alarm not delivered", "type", a.Type, "err", err)
			return
		case <-time.After(wait):
		}
	}
}

func (s *Sender) put(ctx context.Context, a Alarm) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	body, err := json.Marshal([]Alarm{a})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.url+"/events", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("inspector answered %s", resp.Status)
	}
	return nil
}
