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

// Alarming says whether the event is one that inspectors are told.
func Alarming(e core.Event) bool {
	switch e.Kind {
	case core.FailOver, core.GoSolo, core.Synced, core.Degraded, core.AsOrdered, core.Together, core.Apart, core.ProbeFailed, core.ProbePassed, core.MarkLost, core.Restart, core.Trouble:
		return true
	}
	return false
}

// From makes the alarm of an event; ok is Alarming. Details has hostname, the node the
// event is about, status and severity, and what of domain, target, generation and cause
// there is.
func From(e core.Event) (a Alarm, ok bool) {
	if !Alarming(e) {
		return Alarm{}, false
	}
	status, severity := "down", ""
	switch e.Kind {
	case core.FailOver:
		a.Type, severity = Failover, "MAJOR"
		if hostDied(e.Cause) {
			a.Type, severity = HostDown, "CRITICAL"
		}
	case core.GoSolo:
		a.Type, severity = Solo, "MAJOR"
	case core.Synced:
		a.Type, status, severity = Protected, "up", "CLEARED"
	case core.Degraded:
		a.Type, severity = Degraded, "MINOR"
	case core.AsOrdered:
		a.Type, status, severity = Degraded, "up", "CLEARED"
	case core.Together:
		a.Type, severity = Together, "MINOR"
	case core.Apart:
		a.Type, status, severity = Together, "up", "CLEARED"
	case core.ProbeFailed:
		a.Type, severity = Service, "MAJOR"
	case core.ProbePassed:
		a.Type, status, severity = Service, "up", "CLEARED"
	case core.MarkLost:
		a.Type, severity = Lost, "CRITICAL"
	case core.Trouble:
		a.Type, status, severity = Trouble, "up", "WARNING"
	case core.Restart:
		a.Type, severity = Restart, "CRITICAL"
	}
	a.Time = e.Time.UTC().Format("2006-01-02T15:04:05.000000")
	a.Details = map[string]string{
		"hostname": e.Node, "status": status, "severity": severity, "monitor": "hamgr",
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
