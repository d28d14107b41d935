package colo

import (
	"context"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// firstCopy reads all of memory, sees to it that this comes to an end, and waits until QEMU
// is ready for its first checkpoint.
func (s *Session) firstCopy(ctx context.Context, v Version) error {
	reading, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := endCopy(reading, s.client)
		if err != nil {
			cancel(err)
		}
		ended <- err
	}()
	err := s.readCopy(reading, v)
	cancel(nil)
	// Not before it is known whether QEMU was told to stop its guest: it might come later,
	// to a guest that is to run.
	if failed := <-ended; err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return s.waitCOLO(ctx)
}

func (s *Session) readCopy(ctx context.Context, v Version) error {
	return s.guard(ctx, func() error {
		if err := s.in.precopy(); err != nil {
			return err
		}
		if v.returnPath() {
			if err := s.shut(); err != nil {
				return err
			}
		}
		if s.in.silent {
			return s.skipDevices(ctx)
		}
		return nil
	})
}

// QEMU sends in passes what its guest has written meanwhile, and ends the copy by itself
// when little is left; under emulation, when nothing was written during a whole pass
// (downtimeLimit), which a guest that always writes makes a matter of luck. Such a guest is
// stopped for the last pass, as Remus does: at once when passes are short, else when
// further ones have not made them so.
const (
	lookAtPasses = 10 * time.Millisecond
	shortPass    = 20 * time.Millisecond
	patience     = 3 // times what it took to send all memory once
	patienceMin  = time.Second
	stopTimeout  = 10 * time.Second // QEMU writes its disks' caches back
)

// endCopy stops the guest if the first copy would not end otherwise. It returns when it has,
// or when ctx ends, which it does when the copy has been read. While QEMU cannot be asked,
// as libvirtd restarts, say, the copy goes on.
func endCopy(ctx context.Context, c *qmp.Client) error {
	p := passes{began: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookAtPasses):
		}
		n, err := countPasses(ctx, c)
		if err == nil && p.endless(n, time.Now()) && markLastPass(ctx, c) == nil {
			return stopGuest(ctx, c)
		}
	}
}

// passes is what was seen of a first copy.
type passes struct {
	began time.Time
	first time.Duration // how long the first pass took; 0: it is under way
	last  time.Time     // the last look
	n     int           // and what it saw
}

// endless says whether the guest is to be stopped now that QEMU has begun its n-th pass.
func (p *passes) endless(n int, now time.Time) bool {
	if p.first == 0 && n > 1 {
		p.first = now.Sub(p.began)
	}
	more, took := n-p.n, now.Sub(p.last)
	short := p.n > 0 && more > 1 && took < time.Duration(more)*shortPass
	p.n, p.last = n, now
	return short || p.first > 0 && now.Sub(p.began) > max(patienceMin, patience*p.first)
}

// countPasses is how often QEMU has taken stock of what its guest wrote; 0 when there is
// no copy under way any more.
func countPasses(ctx context.Context, c *qmp.Client) (int, error) {
	var m struct {
		RAM struct {
			Passes int `json:"dirty-sync-count"`
		} `json:"ram"`
	}
	err := c.Execute(ctx, "query-migrate", nil, &m)
	return m.RAM.Passes, err
}

// lastPassBandwidth is no bound, bytes a second; and by this figure Recover knows why a
// guest stands still.
const lastPassBandwidth = 1<<60 + 1

func markLastPass(ctx context.Context, c *qmp.Client) error {
	return c.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": uint64(lastPassBandwidth)}, nil)
}

// inLastPass says whether a guest that is paused was stopped by stopGuest.
func inLastPass(ctx context.Context, c *qmp.Client) (bool, error) {
	var now struct {
		Bandwidth uint64 `json:"max-bandwidth"`
	}
	err := c.Execute(ctx, "query-migrate-parameters", nil, &now)
	return now.Bandwidth == lastPassBandwidth, err
}

// stopGuest stops the guest; QEMU lets it run again in its session (colo.c, vm_start), and
// Recover if it does not come that far. It does nothing to one that QEMU has stopped itself
// in the meantime. It waits for QEMU's answer even if ctx ends.
func stopGuest(ctx context.Context, c *qmp.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return c.Execute(ctx, "stop", nil, nil)
}
