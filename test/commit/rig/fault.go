package rig

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
)

// Fault is something that happens to a protected guest's hosts.
type Fault struct {
	Name string
	// Moves says that the guest's generation rises by it, always.
	Moves bool
	// Do makes it happen, and undoes it if it passes by itself. It returns the host that
	// has to be booted afterwards, or none.
	Do func(ctx context.Context, r *Rig, p trace.Event, random *rand.Rand) (off string, err error)
}

// The names of those that tests ask for.
const (
	PowerOff   = "power-off"
	QEMUKilled = "QEMU killed"
)

// Faults are what a campaign draws from.
var Faults = []Fault{
	{PowerOff, true, func(_ context.Context, r *Rig, p trace.Event, _ *rand.Rand) (string, error) {
		return p.Primary, r.PowerOff(p.Primary)
	}},
	{QEMUKilled, true, func(ctx context.Context, r *Rig, p trace.Event, _ *rand.Rand) (string, error) {
		return "", r.kill(ctx, commit.GuestKilled, p.Primary, "pkill", "-KILL", "-f", "^/usr/bin/qemu-system-x86_64 -name guest=g1")
	}},
	{"agent killed", true, func(ctx context.Context, r *Rig, p trace.Event, _ *rand.Rand) (string, error) {
		return "", r.kill(ctx, commit.AgentKilled, p.Primary, "sh", "-c", killHamgr)
	}},
	{"link flap", false, flap},
}

// killHamgr returns when the kernel has closed its files, 130 ms later at times: until then a
// device of its is there, which takes packets that nobody reads. Two seconds at most.
const killHamgr = "p=$(pgrep -x hamgr) && kill -KILL $p && for i in $(seq 400); do kill -0 $p 2>/dev/null || break; sleep 0.005; done"

func (r *Rig) kill(ctx context.Context, what commit.What, host string, command ...string) error {
	return r.during(what, host, func() error {
		_, err := r.Host(host).Exec(ctx, command...)
		return err
	})
}

// during notes a fault for the checker.
func (r *Rig) during(what commit.What, host string, do func() error) error {
	f := commit.Fault{What: what, Host: host, From: time.Now()}
	err := do()
	f.Until = time.Now()
	r.faults = append(r.faults, f)
	return err
}

var links = map[string]commit.What{"guest": commit.LinkDown, "mgmt": commit.CutOff}

// flap takes one link of the primary or the backup down for 10 ms to 1 s, short times as
// often as long ones.
func flap(ctx context.Context, r *Rig, p trace.Event, random *rand.Rand) (string, error) {
	host := []string{p.Primary, p.Backup}[random.IntN(2)]
	network := []string{"guest", "mgmt"}[random.IntN(2)]
	down := time.Duration(float64(10*time.Millisecond) * math.Pow(100, random.Float64()))
	h := r.Host(host)
	return "", r.during(links[network], host, func() error {
		if err := h.Cut(network); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(down):
		}
		if err := h.Heal(network); err != nil {
			return fmt.Errorf("%s stays cut off: %w", host, err)
		}
		return nil
	})
}
