package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// executor reaches the hosts of a cluster.
type executor interface {
	hosts() []string
	kind() string
	// run runs a shell script as root and returns what it prints.
	run(ctx context.Context, host, script string) (string, error)
	powerOff(ctx context.Context, host string) error
	powerOn(ctx context.Context, host string) error
}

// standing is how things stand for the guest.
type standing struct {
	Time            time.Time
	Primary, Backup string
	Phase           core.Phase
	Generation      uint64
}

// done is one fault that was done, or could not be.
type done struct {
	step
	Host   string    `json:"host"`
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	Missed string    `json:"missed,omitempty"` // why it could not be done
}

// injector does faults, one after another, and waits for their ends.
type injector struct {
	executor
	site site
	now  func() (standing, error)
	id   string // of this run; faults of a run are told by a number behind it

	off sync.Map // hosts that lost power in this run: what was there to be undone went with it
}

const (
	// extra is how long a host may take to do or undo something.
	extra = 20 * time.Second
	look  = 50 * time.Millisecond
)

// inject does a schedule. What could not be done is in the answer; an error says that
// something could not be undone.
func (i *injector) inject(ctx context.Context, steps []step) ([]done, error) {
	out, errs := make([]done, len(steps)), make([]error, len(steps))
	var ends sync.WaitGroup
	defer ends.Wait()
	for n, s := range steps {
		if err := sleep(ctx, s.After.Duration); err != nil {
			return nil, err
		}
		id := fmt.Sprintf("%s-%d", i.id, n)
		d := done{step: s, From: time.Now()}
		at, err := i.now()
		if err == nil {
			d.Host, err = s.in(i.hosts(), at)
		}
		if err == nil {
			err = i.start(ctx, d, id)
		}
		d.Until = time.Now()
		if err != nil {
			d.Missed = err.Error()
		}
		out[n] = d
		if err == nil && s.Lasts.Duration > 0 {
			ends.Go(func() { errs[n] = i.end(ctx, &out[n], id) })
		}
	}
	ends.Wait()
	for n, err := range errs {
		if err != nil {
			return out, fmt.Errorf("%s on %s: %w", steps[n].Fault, out[n].Host, err)
		}
	}
	return out, nil
}

func (i *injector) start(ctx context.Context, d done, id string) error {
	if d.fault.Power {
		i.off.Store(d.Host, true)
		return i.powerOff(ctx, d.Host)
	}
	ctx, cancel := context.WithTimeout(ctx, extra)
	defer cancel()
	_, err := i.run(ctx, d.Host, d.fault.script(i.site, id, d.Lasts.Duration))
	return err
}

// end waits until a fault is over.
func (i *injector) end(ctx context.Context, d *done, id string) error {
	defer func() { d.Until = time.Now() }()
	if err := sleep(ctx, d.Lasts.Duration); err != nil {
		return err
	}
	if d.fault.Power {
		return i.powerOn(ctx, d.Host)
	}
	ctx, cancel := context.WithTimeout(ctx, extra)
	defer cancel()
	for {
		says, err := i.run(ctx, d.Host, result(id))
		_, off := i.off.Load(d.Host)
		lines := strings.Split(strings.TrimSpace(says), "\n")
		switch last := lines[len(lines)-1]; {
		case err == nil && last == "undone":
			return nil
		case err == nil && last == "failed":
			d.Missed = strings.TrimSpace(says)
			return nil
		case err == nil && last == "stuck":
			return fmt.Errorf("not undone: %s", says)
		case err != nil && off:
			return nil
		}
		if sleep(ctx, look) != nil {
			return fmt.Errorf("not undone: %s (%v)", says, err)
		}
	}
}

// sleep is for a time, or as long as ctx lasts.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
