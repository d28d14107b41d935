package testbed

import (
	"fmt"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/test/guest/client"
)

const (
	udpClients = 20
	// answered is how long a request may take to be answered when nothing fails.
	answered = 300 * time.Millisecond
)

// TestRequestsInFlight: UDP requests that had reached the host when it lost power, and
// whose answers nobody has seen, are answered by the restored guest. Without the input
// handler they are lost.
func TestRequestsInFlight(t *testing.T) {
	for _, in := range []string{"on", "off"} {
		t.Run("input "+in, func(t *testing.T) {
			b, _ := protectedGuest(t, "--input", in)
			u, err := b.StartUDPClients(t.Context(), udpClients, 0, 2)
			if err != nil {
				t.Fatal(err)
			}
			waitAnswers(t, u, 20*udpClients)
			at, err := b.Host("h1").PowerOff()
			if err != nil {
				t.Fatal(err)
			}
			p := protectedAfter(t, b, 1)
			waitAnswers(t, u, 20*udpClients)
			if p, err = firstProtection(b, t); err != nil {
				t.Fatal(err)
			}
			r, err := u.Stop(b)
			if err != nil || r.Error != "" {
				t.Fatalf("%+v, %v", r, err)
			}
			before, flight, after := lostWhen(r, at)
			t.Logf("%d requests; lost: %d before the power-off, %d in flight, %d sent after it; the new primary: %+v", r.Requests, before, flight, after, p.Stats)
			if p.Stats == nil || p.Input != (in == "on") || (p.Stats.InputCopied > 0) != p.Input {
				t.Errorf("input %v: %+v", p.Input, p.Stats)
			}
			if in == "off" && flight == 0 {
				t.Error("no request was in flight: this test could not have seen a loss")
			}
			if in == "on" && (flight > 0 || before > 0) {
				t.Error("lost, although they had reached the host")
			}
		})
	}
}

// firstProtection is as protected now, with its primary's counters.
func firstProtection(b *Bed, t *testing.T) (api.ProtectionStatus, error) {
	s, err := b.Status(t.Context(), "h3")
	if err != nil || len(s.Protections) == 0 {
		return api.ProtectionStatus{}, fmt.Errorf("%+v, %v", s, err)
	}
	return s.Protections[0], nil
}

// lostWhen sorts the lost requests: those of long before a time, those under way then, those sent after it.
func lostWhen(r client.Result, at time.Time) (before, flight, after int) {
	for _, sent := range r.LostAt {
		switch {
		case sent.Before(at.Add(-answered)):
			before++
		case sent.Before(at):
			flight++
		default:
			after++
		}
	}
	return before, flight, after
}
