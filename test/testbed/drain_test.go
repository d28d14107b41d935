package testbed

import (
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// TestDrain empties the primary's host, then the new one's, under clients that lose
// nothing, over UDP neither; in mode checkpoint too, where a planned failover rolls nothing back.
func TestDrain(t *testing.T) {
	for _, mode := range []string{"buffer", "checkpoint"} {
		t.Run(mode, func(t *testing.T) {
			b, c := protectedGuest(t, "--mode", mode)
			ctx := t.Context()
			generation := protectedNow(t, b).Generation
			u, err := b.StartUDPClients(ctx, udpClients, 10*time.Millisecond, 4)
			if err != nil {
				t.Fatal(err)
			}
			waitAnswers(t, u, 20*udpClients)
			for _, host := range []string{"h1", "h2"} {
				from := time.Now()
				if out, err := b.Tell(ctx, "h3", "drain", host); err != nil {
					t.Fatal(out, err)
				}
				p := protectedAfter(t, b, generation)
				generation = p.Generation
				waitAnswers(t, c, 20)
				t.Logf("%s drained: %s -> %s, longest gap %.0f ms", host, p.Primary, p.Backup, ms(LongestGap(c.Samples(), from, time.Now())))
				if p.Primary == host || p.Backup == host || string(p.Mode) != mode {
					t.Errorf("after the drain of %s: %+v", host, p.Protection)
				}
				if out, err := b.Tell(ctx, "h3", "undrain", host); err != nil {
					t.Fatal(out, err)
				}
			}
			if out, err := b.Hamgr(ctx, "h3", "failover", "g1"); err != nil {
				t.Error(out, err)
			}
			if p := protectedAfter(t, b, generation); p.Phase != core.Protected {
				t.Error(p)
			}
			waitAnswers(t, c, 20)
			waitAnswers(t, u, 20*udpClients)
			verdict(t, b, c)
			r, err := u.Stop(b)
			if err != nil {
				t.Fatal(err)
			}
			if t.Logf("%d requests over UDP, %d lost", r.Requests, r.Lost); r.Lost > 0 || r.Error != "" {
				t.Errorf("lost at %v; %s", r.LostAt, r.Error)
			}
		})
	}
}
