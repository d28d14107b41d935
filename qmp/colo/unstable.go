package colo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// Every name that QEMU marks unstable (x-) is in this file, with what depends on it.
const (
	capCOLO      = "x-colo"
	paramDelay   = "x-checkpoint-delay"
	cmdHeartbeat = "x-colo-lost-heartbeat"
)

const (
	capReturnPath = "return-path"
	capEvents     = "events"
	// returnPathMajor is the QEMU from which on COLO insists on the return path. Older
	// ones must not have it: there the session would use its messages for COLO's own.
	returnPathMajor = 11
)

func (v Version) returnPath() bool { return v.Major >= returnPathMajor }

type capability struct {
	Name  string `json:"capability"`
	State bool   `json:"state"`
}

// wanted is what capabilities to change for a session: COLO on, and everything off that
// somebody left on and that changes the stream (multifd, xbzrle, postcopy...). QEMU's
// default for all of those is off.
func wanted(v Version, now []capability) []capability {
	set := []capability{{capCOLO, true}}
	if v.returnPath() {
		set = append(set, capability{capReturnPath, true})
	}
	for _, c := range now {
		ours := c.Name == capCOLO || c.Name == capEvents || c.Name == capReturnPath && v.returnPath()
		if c.State && !ours {
			set = append(set, capability{c.Name, false})
		}
	}
	return set
}

func getCapabilities(ctx context.Context, c *qmp.Client) (now []capability, err error) {
	err = c.Execute(ctx, "query-migrate-capabilities", nil, &now)
	return now, err
}

func setCapabilities(ctx context.Context, c *qmp.Client, caps []capability) error {
	return c.Execute(ctx, "migrate-set-capabilities", map[string]any{"capabilities": caps}, nil)
}

// enabled says whether QEMU would make a COLO session of a migration, so whether there is
// a session, or is left of one.
func enabled(ctx context.Context, c *qmp.Client) (bool, error) {
	now, err := getCapabilities(ctx, c)
	for _, x := range now {
		if x.Name == capCOLO {
			return x.State, err
		}
	}
	return false, err
}

// enable sets up a session to come. QEMU is left as it was when it refuses. The parameters
// come first: what an earlier session left in them says nothing about this one.
func enable(ctx context.Context, c *qmp.Client, v Version, o Options) error {
	now, err := getCapabilities(ctx, c)
	if err != nil {
		return err
	}
	err = c.Execute(ctx, "migrate-set-parameters", map[string]any{
		paramDelay: o.CheckpointDelay.Milliseconds(), "max-bandwidth": o.MaxBandwidth,
		"downtime-limit": o.DowntimeLimit.Milliseconds(),
	}, nil)
	if err != nil {
		return err
	}
	if err := setCapabilities(ctx, c, wanted(v, now)); err != nil {
		return joinCleanup(fmt.Errorf("%w: %w", ErrUnsupported, err), resetParameters(ctx, c))
	}
	return nil
}

// disable leaves QEMU fit for an ordinary migration. libvirt would not do it: it does not
// know the capability. ctx of the caller may have ended, so this takes its own, of 2 s.
func disable(c *qmp.Client, v Version) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	caps := []capability{{capCOLO, false}}
	if v.returnPath() {
		caps = append(caps, capability{capReturnPath, false})
	}
	describe(ctx, c, true)
	return errors.Join(resetParameters(ctx, c), setCapabilities(ctx, c, caps))
}

// resetParameters sets what QEMU has by default (migration/options.c, 7.2 to 11.1): with a
// downtime limit of 0 an ordinary migration might never end. The delay stays: setting it,
// QEMU uses a timer that there is in the middle of a session only (colo.c).
func resetParameters(ctx context.Context, c *qmp.Client) error {
	return c.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": 128 << 20, "downtime-limit": 300}, nil)
}

// describe switches QEMU's description of its devices' state, in JSON, for debuggers. In a
// session nobody reads it, and QEMU (seen in 11.1.3) adds a whole one at each checkpoint to
// one text in memory: about 95 KiB each, 4 MiB a second at epochs of 25 ms, until the host
// has no memory left. One that refuses goes on describing.
func describe(ctx context.Context, c *qmp.Client, on bool) (done bool) {
	return c.Execute(ctx, "qom-set", map[string]any{"path": "/machine", "property": "suppress-vmdesc", "value": !on}, nil) == nil
}

// lostHeartbeat tells QEMU that its peer is gone: it leaves the session and the guest runs on.
func lostHeartbeat(ctx context.Context, c *qmp.Client) error {
	return c.Execute(ctx, cmdHeartbeat, nil, nil)
}
