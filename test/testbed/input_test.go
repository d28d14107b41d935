package testbed

import (
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/alarm"
	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

const udpClients = 20

// TestRequestsOverAFailover: UDP requests that had reached the host when it lost power, and
// whose answers nobody has seen, are answered by the restored guest; so are those that were
// sent to the dead host. Without the input handler they are lost.
func TestRequestsOverAFailover(t *testing.T) {
	for _, in := range []string{"on", "off"} {
		t.Run("input "+in, func(t *testing.T) {
			b, _ := protectedGuest(t, "--input", in)
			u, err := b.StartUDPClients(t.Context(), udpClients, 10*time.Millisecond, 2)
			if err != nil {
				t.Fatal(err)
			}
			waitAnswers(t, u, 20*udpClients)
			before := protectedNow(t, b)
			at, err := b.Host("h1").PowerOff()
			if err != nil {
				t.Fatal(err)
			}
			protectedAfter(t, b, before.Generation)
			waitAnswers(t, u, 20*udpClients)
			status, err := b.WaitStatus(t.Context(), "h3", 20*time.Second, "the new primary's figures", func(_ api.Status, g *api.ProtectionStatus) bool {
				return g != nil && g.Stats != nil
			})
			if err != nil {
				t.Fatal(err)
			}
			p := status.Protections[0]
			_, back, err := b.LastFailover(t.Context(), "h3")
			if err != nil {
				t.Fatal(err)
			}
			r, err := u.Stop(b)
			if err != nil {
				t.Fatal(err)
			}
			l, err := LossesOf(r, at, back)
			if err != nil {
				t.Fatal(err)
			}
			for _, sent := range r.LostAt {
				t.Logf("lost: sent %.1f ms after the power-off", ms(sent.Sub(at)))
			}
			t.Logf("back after %.0f ms; of %d requests %s; the new primary: %+v", ms(back.Sub(at)), r.Requests, l, p.Stats)
			switch {
			case in == "off" && l.Flight+l.Window == 0:
				t.Error("this test could not have seen a loss")
			case in == "on" && l.Total() > 0:
				t.Error("lost")
			case in == "on" && (p.Stats.InputReplayed == 0 || p.Degraded != ""):
				t.Error("no copies delivered, or the input handler has a problem now")
			}
		})
	}
}

// TestRequestsWhenQEMUDies: nor are those lost that come to a host that lives when the
// guest's QEMU does not.
func TestRequestsWhenQEMUDies(t *testing.T) {
	b, _ := protectedGuest(t)
	u, err := b.StartUDPClients(t.Context(), udpClients, 10*time.Millisecond, 3)
	if err != nil {
		t.Fatal(err)
	}
	waitAnswers(t, u, 20*udpClients)
	p := protectedNow(t, b)
	for range 5 {
		kill(t, b, p.Primary, "^/usr/bin/qemu-system-x86_64 -name guest=g1")
		p = protectedAfter(t, b, p.Generation)
		waitAnswers(t, u, 20*udpClients)
	}
	r, err := u.Stop(b)
	if err != nil {
		t.Fatal(err)
	}
	if t.Logf("%d requests, %d lost", r.Requests, r.Lost); r.Lost > 0 || r.Error != "" {
		t.Errorf("lost at %v; %s", r.LostAt, r.Error)
	}
}

// TestDegradedInput: where the copies of a guest's input cannot be made, or do not arrive,
// it is protected all the same, and people hear of it.
func TestDegradedInput(t *testing.T) {
	b := up(t)
	ctx := t.Context()
	if err := b.StartGuest(ctx, "h1", 128); err != nil {
		t.Fatal(err)
	}
	c, err := b.StartClient(ctx, requestEvery, 1)
	if err != nil {
		t.Fatal(err)
	}
	onHost(t, b, "h1", `tc qdisc add dev vnet0 clsact && tc filter add dev vnet0 egress protocol all u32 match u32 0 0 flowid 1:1`)
	if text, err := b.Protect(ctx, "h1", "g1"); err != nil {
		t.Fatal(text, err)
	}
	awaitDegraded(t, b, "vnet0 egress")
	awaitAlarm(t, b, alarm.Degraded)
	before := protectedNow(t, b)
	if _, err := b.Host("h1").PowerOff(); err != nil {
		t.Fatal(err)
	}
	p := protectedAfter(t, b, before.Generation)
	if p.Degraded != "" {
		t.Errorf("nothing is in the way on %s, and: %s", p.Primary, p.Degraded)
	}
	onHost(t, b, p.Primary, `ip link delete "$(ip -o link show type vxlan | cut -d: -f2 | tr -d ' ')"`)
	awaitDegraded(t, b, "do not come")
	waitAnswers(t, c, 20)
	verdict(t, b, c)
}

func onHost(t *testing.T, b *Bed, host, script string) {
	t.Helper()
	if text, err := b.Host(host).Exec(t.Context(), "sh", "-c", script); err != nil {
		t.Fatal(text, err)
	}
}

// awaitDegraded waits until g1 is said to be, for a reason with these words, and is protected.
func awaitDegraded(t *testing.T, b *Bed, words string) {
	t.Helper()
	_, err := b.WaitStatus(t.Context(), "h3", 20*time.Second, "g1 is degraded", func(_ api.Status, g *api.ProtectionStatus) bool {
		return g != nil && g.Phase == core.Protected && strings.Contains(g.Degraded, words)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func awaitAlarm(t *testing.T, b *Bed, kind string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		list, err := b.Alarms()
		for _, a := range list {
			if a.Event.Type == kind {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no alarm %s: %+v, %v", kind, list, err)
		}
	}
}
