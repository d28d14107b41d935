package colo

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// firstCopy reads all of memory, sees to it that this comes to an end, and waits until QEMU
// is ready for its first checkpoint.
func (s *Session) firstCopy(ctx context.Context, v Version, most time.Duration) error {
	reading, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := endCopy(reading, s.client, most)
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
	if err == nil {
		err = s.waitCOLO(ctx)
	}
	if err == nil { // should a user pause the guest later, it is not for the last pass
		err = setBandwidth(ctx, s.client, unbounded)
	}
	return err
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
// when little is left; under emulation (11.1.3, downtimeLimit) when nothing was written
// during a whole pass, which a guest that always writes makes a matter of luck. Such a guest
// is stopped for the last pass, as Remus does: at once when passes are short, else when
// further ones have not made them so. One whose passes stay long is not.
const (
	lookAtPasses = 10 * time.Millisecond
	shortPass    = 20 * time.Millisecond
	longPass     = time.Second
	patience     = 3 // times what it took to send all memory once
	patienceMin  = time.Second
	patienceMost = time.Minute // beyond the first pass
	lastPassMost = 5 * time.Second
	stopTimeout  = 45 * time.Second // more than libvirt waits for a lock of its own
)

// endCopy stops the guest if the first copy would not end otherwise, and sees to it that it
// does then. It returns when ctx ends, as it does when the copy has been read. While QEMU
// cannot be asked, as libvirtd restarts, say, the copy goes on.
func endCopy(ctx context.Context, c *qmp.Client, most time.Duration) error {
	p := passes{turned: time.Now()}
	p.began = p.turned
	for pause(ctx, lookAtPasses) {
		asked := time.Now()
		l, err := lookAtCopy(ctx, c)
		if err != nil || !p.endless(l, asked, time.Now()) || l.run != "running" || mark(ctx, c) != nil {
			continue
		}
		if err := stop(ctx, c); err != nil {
			return err
		}
		if pause(ctx, most) {
			return fmt.Errorf("colo: the guest stood still for %v for the last pass of its first copy; is the backup in reach, and the network fast enough?", most)
		}
	}
	return nil
}

// pause is false when ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// passes is what was seen of a first copy.
type passes struct {
	began  time.Time
	done   int           // passes
	first  time.Duration // how long the first one took
	each   time.Duration // how long the last ones took, each
	turned time.Time     // when that was seen
}

// look is one look at a first copy.
type look struct {
	n         int    // how often QEMU has taken stock of what its guest wrote: at the beginning of every pass; 0: no copy is under way
	remaining uint64 // of what it knew then, bytes that are to be sent
	sent      uint64 // bytes since the beginning
	run       string // what the guest does
}

// endless says whether the guest is to be stopped, by a look that was asked for and answered
// at these times.
func (p *passes) endless(l look, asked, now time.Time) bool {
	if more := l.n - 1 - p.done; more > 0 {
		if p.each = now.Sub(p.turned) / time.Duration(more); p.done == 0 {
			p.first = p.each
		}
		p.done, p.turned = l.n-1, asked
	}
	each := max(p.each, now.Sub(p.turned)) // the pass under way
	took := now.Sub(p.began)
	switch {
	case l.n == 0 || p.done == 0:
		return false
	case each < shortPass:
		return true
	case took < max(patienceMin, min(patience*p.first, p.first+patienceMost)):
		return false
	default: // this one, and the next
		return float64(l.remaining)*took.Seconds() < float64(l.sent)*longPass.Seconds() && each < longPass
	}
}

func lookAtCopy(ctx context.Context, c *qmp.Client) (look, error) {
	var m struct {
		RAM struct {
			Passes    int    `json:"dirty-sync-count"`
			Remaining uint64 `json:"remaining"`
			Sent      uint64 `json:"transferred"`
		} `json:"ram"`
	}
	if err := c.Execute(ctx, "query-migrate", nil, &m); err != nil {
		return look{}, err
	}
	s, err := queryStatus(ctx, c)
	return look{n: m.RAM.Passes, remaining: m.RAM.Remaining, sent: m.RAM.Sent, run: s.run}, err
}

// Bandwidths that are no bound, bytes a second. By the second Recover knows why a guest
// stands still.
const (
	unbounded         = 1 << 60
	lastPassBandwidth = unbounded + 1
)

// mark says in QEMU that a guest which stands still from now on was stopped by hamgr. Like
// stop it waits for QEMU's answer even if ctx ends.
func mark(ctx context.Context, c *qmp.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return setBandwidth(ctx, c, lastPassBandwidth)
}

// stop stops the guest; QEMU lets it run again in its session (colo.c, vm_start), and
// Recover if it does not come that far. It does nothing to one that QEMU has stopped itself
// in the meantime.
func stop(ctx context.Context, c *qmp.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return c.Execute(ctx, "stop", nil, nil)
}

// stoppedForLastPass says whether a guest that is paused was stopped by endCopy.
func stoppedForLastPass(ctx context.Context, c *qmp.Client) (bool, error) {
	var now struct {
		Bandwidth uint64 `json:"max-bandwidth"`
	}
	err := c.Execute(ctx, "query-migrate-parameters", nil, &now)
	return now.Bandwidth == lastPassBandwidth, err
}

func setBandwidth(ctx context.Context, c *qmp.Client, bytes uint64) error {
	return c.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": bytes}, nil)
}
