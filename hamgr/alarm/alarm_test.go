package alarm

import (
	"maps"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 5000, time.FixedZone("", 3600))

func event(kind core.Kind, cause string) core.Event {
	return core.Event{Index: 7, Time: noon, Kind: kind, Domain: "web1", Node: "h1", Target: "h2", Generation: 3, Cause: cause}
}

func TestFrom(t *testing.T) {
	for _, c := range []struct {
		kind                           core.Kind
		cause, typ, status, severities string
	}{
		{core.FailOver, "no heartbeat from h1 for 253ms; suspected by 2 of 3 managers", HostDown, "down", "CRITICAL"},
		{core.FailOver, "suspected by 2 of 3 managers", HostDown, "down", "CRITICAL"},
		// the host lives in all of these
		{core.FailOver, "hamgr on h1 has been gone for 8s though its host answers; suspected by 2 of 3 managers", Failover, "down", "MAJOR"},
		{core.FailOver, "QEMU of web1 died on h1", Failover, "down", "MAJOR"},
		{core.FailOver, "asked by operator", Failover, "down", "MAJOR"},
		{core.FailOver, "", Failover, "down", "MAJOR"},
		{core.GoSolo, "no heartbeat from h2 for 253ms", Solo, "down", "MAJOR"},
		{core.Synced, "", Protected, "up", "CLEARED"},
		{core.Degraded, "copies of the guest's input do not arrive", Degraded, "down", "MINOR"},
		{core.AsOrdered, "", Degraded, "up", "CLEARED"},
		{core.Together, "web2 of its group web runs on h1, too", Together, "down", "MINOR"},
		{core.Apart, "", Together, "up", "CLEARED"},
		{core.ProbeFailed, "its service has not answered 3 times", Service, "down", "MAJOR"},
		{core.ProbePassed, "tcp://10.0.0.5:80 answers again", Service, "up", "CLEARED"},
		{core.MarkLost, "no heartbeat from h1 for 10s", Lost, "down", "CRITICAL"},
	} {
		a, ok := From(event(c.kind, c.cause))
		want := map[string]string{"hostname": "h1", "status": c.status, "severity": c.severities, "monitor": "hamgr",
			"monitor_event_id": "hamgr-7", "domain": "web1", "target": "h2", "generation": "3", "cause": c.cause}
		maps.DeleteFunc(want, func(_, v string) bool { return v == "" })
		if !ok || a.Type != c.typ || !maps.Equal(a.Details, want) || a.Time != "2026-01-02T11:00:00.000005" {
			t.Errorf("%s, %q: %+v", c.kind, c.cause, a)
		}
		if a.Type == HostDown && a.Details["status"] != "down" {
			t.Error("Doctor does not read the status: this would take the host down")
		}
	}
	for _, k := range []core.Kind{core.RegisterNode, core.Protect, core.Unprotect, core.Assign, core.Restored} {
		if _, ok := From(event(k, "x")); ok {
			t.Errorf("%s is alarming", k)
		}
	}
}

func TestQueueKeepsTheNewest(t *testing.T) {
	q := queue{wake: make(chan struct{}, 1)}
	for i := range queueLength + 10 {
		if dropped := q.add(waiting{since: time.Unix(int64(i), 0)}); dropped != (i >= queueLength) {
			t.Fatalf("dropped at %d: %t", i, dropped)
		}
	}
	for i := 10; i < queueLength+10; i++ {
		if w, ok := q.next(); !ok || w.since.Unix() != int64(i) {
			t.Fatalf("%d: %v", i, w)
		}
	}
	if _, ok := q.next(); ok || q.dropped != 10 {
		t.Fatal("more left, or", q.dropped)
	}
}
