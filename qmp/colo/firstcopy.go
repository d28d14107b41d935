package colo

import (
	"context"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// firstCopy reads all of memory, sees to it that this comes to an end, and waits until QEMU
// is ready for its first checkpoint.
func (s *Session) firstCopy(ctx context.Context, v Version, o Options) error {
	reading, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := endCopy(reading, s.client, o.lastPassMost)
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
		err = setBandwidth(ctx, s.client, o.MaxBandwidth)
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
		n, run, err := lookAtCopy(ctx, c)
		if err != nil || !p.endless(n, time.Now()) || run != "running" {
			continue
		}
		if err := stopForLastPass(ctx, c); err != nil {
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

// endless says whether the guest is to be stopped, as QEMU has taken stock n times of what
// it wrote: once at the beginning of every pass. n is 0 when there is no copy under way.
func (p *passes) endless(n int, now time.Time) bool {
	if more := n - 1 - p.done; more > 0 {
		if p.each = now.Sub(p.turned) / time.Duration(more); p.done == 0 {
			p.first = p.each
		}
		p.done, p.turned = n-1, now
	}
	each := max(p.each, now.Sub(p.turned)) // the pass under way
	switch {
	case n == 0 || p.done == 0:
		return false
	case each < shortPass:
		return true
	default:
		return each < longPass && now.Sub(p.began) > max(patienceMin, patience*p.first)
	}
}

// lookAtCopy asks QEMU how often it has taken stock (0: no copy is under way), and what its
// guest does.
func lookAtCopy(ctx context.Context, c *qmp.Client) (n int, run string, err error) {
	var m struct {
		RAM struct {
			Passes int `json:"dirty-sync-count"`
		} `json:"ram"`
	}
	if err = c.Execute(ctx, "query-migrate", nil, &m); err != nil {
		return 0, "", err
	}
	s, err := queryStatus(ctx, c)
	return m.RAM.Passes, s.run, err
}

// lastPassBandwidth is no bound, bytes a second; and by this figure Recover knows why a
// guest stands still.
const lastPassBandwidth = 1<<60 + 1

// stopForLastPass stops the guest; QEMU lets it run again in its session (colo.c, vm_start),
// and Recover if it does not come that far. It does nothing to one that QEMU has stopped
// itself in the meantime. It waits for QEMU's answers even if ctx ends.
func stopForLastPass(ctx context.Context, c *qmp.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := setBandwidth(ctx, c, lastPassBandwidth); err != nil {
		return err
	}
	return c.Execute(ctx, "stop", nil, nil)
}

// stoppedForLastPass says whether a guest that is paused was stopped by stopForLastPass.
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
