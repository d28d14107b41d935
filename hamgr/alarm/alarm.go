package alarm

import (
	"fmt"
	"maps"
	"strings"

	"github.com/hamgr/hamgr/hamgr/core"
)

// The types of alarms.
const (
	HostDown  = "compute.host.down" // Doctor's own: takes the host out of service
	Failover  = "hamgr.protection.failover"
	Solo      = "hamgr.protection.solo"
	Protected = "hamgr.protection.protected"
	Degraded  = "hamgr.protection.degraded"
	Together  = "hamgr.protection.together" // with another of its anti-affinity group
	Lost      = "hamgr.protection.lost"
	Service   = "hamgr.guest.service"      // does not answer its probe; nothing was done
	Trouble   = "hamgr.guest.trouble"      // of the guest's own; nothing was done
	Restart   = "hamgr.protection.restart" // anew: state was lost
)

// Alarm is one event of Doctor's list.
type Alarm struct {
	Time    string            `json:"time"` // UTC, ISO 8601 without zone, as Doctor's monitors send it
	Type    string            `json:"type"`
	Details map[string]string `json:"details"`
}

// form is what does not depend on the single event.
type form struct{ typ, status, severity string }

// forms has the events that inspectors are told.
var forms = map[core.Kind]form{
	core.FailOver:    {Failover, "down", "MAJOR"}, // or HostDown
	core.GoSolo:      {Solo, "down", "MAJOR"},
	core.Synced:      {Protected, "up", "CLEARED"},
	core.Degraded:    {Degraded, "down", "MINOR"},
	core.AsOrdered:   {Degraded, "up", "CLEARED"},
	core.Together:    {Together, "down", "MINOR"},
	core.Apart:       {Together, "up", "CLEARED"},
	core.ProbeFailed: {Service, "down", "MAJOR"},
	core.ProbePassed: {Service, "up", "CLEARED"},
	core.MarkLost:    {Lost, "down", "CRITICAL"},
	core.Trouble:     {Trouble, "up", "WARNING"},
	core.Restart:     {Restart, "down", "CRITICAL"},
}

// From makes the alarm of an event; ok: it is one that inspectors are told. Details has
// hostname, the node the event is about, status and severity, and what of domain, target,
// generation and cause there is.
func From(e core.Event) (a Alarm, ok bool) {
	f, ok := forms[e.Kind]
	if !ok {
		return Alarm{}, false
	}
	if e.Kind == core.FailOver && hostDied(e.Cause) {
		f = form{HostDown, "down", "CRITICAL"}
	}
	a.Type = f.typ
	a.Time = e.Time.UTC().Format("2006-01-02T15:04:05.000000")
	a.Details = map[string]string{
		"hostname": e.Node, "status": f.status, "severity": f.severity, "monitor": "hamgr",
		"monitor_event_id": fmt.Sprintf("hamgr-%d", e.Index), "domain": e.Domain, "target": e.Target, "cause": e.Cause,
	}
	if e.Generation > 0 {
		a.Details["generation"] = fmt.Sprint(e.Generation)
	}
	maps.DeleteFunc(a.Details, func(_, v string) bool { return v == "" })
	return a, true
}

// hostDied tells a dead host from a dead QEMU, a dead hamgr or an operator's wish by the
// words of package detector. Words that are new count for a host that lives: a host that
// is taken out of service by mistake costs all its guests.
func hostDied(cause string) bool {
	return strings.HasPrefix(cause, "no heartbeat from ") || strings.HasPrefix(cause, "suspected by ")
}
