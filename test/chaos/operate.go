package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/core"
)

// live is a real cluster with a guest that is protected already. Chaos sees of it what
// hamgr says, and whether a probe succeeds; it cannot put a lost guest right again.
type live struct {
	remote
	site  site
	probe string
	bound time.Duration
}

const ask = 500 * time.Millisecond

// plan shows what would be run where.
func (o *options) plan() error {
	hosts, s := []string{}, labSite
	for i := range o.nodes {
		hosts = append(hosts, fmt.Sprintf("h%d", i+1))
	}
	if o.ssh != "" {
		to, err := parseHosts(o.ssh)
		if err != nil {
			return err
		}
		hosts, s = remote{to: to}.hosts(), o.site
	}
	if len(hosts) < 3 {
		return errors.New("three hosts at least")
	}
	fmt.Fprintf(o.progress, "seed %d; taking %s for the primary and %s for the backup\n", o.seed, hosts[0], hosts[1])
	for n := 1; n <= o.runs; n++ {
		steps, err := o.steps(n)
		if err != nil {
			return err
		}
		for i, step := range steps {
			host, err := step.in(hosts, standing{Primary: hosts[0], Backup: hosts[1]})
			if err != nil {
				return err
			}
			does := "the power goes, and comes back\n"
			if !step.fault.Power {
				does = step.fault.script(s, fmt.Sprintf("run%d-%d", n, i), step.Lasts.Duration)
			}
			fmt.Fprintf(o.progress, "\nrun %d: %s; on %s:\n%s\n", n, step, host, indent(does))
		}
	}
	return nil
}

// operate does the runs on a real cluster.
func (o *options) operate(ctx context.Context) error {
	to, err := parseHosts(o.ssh)
	if err != nil {
		return err
	}
	if o.site.Domain == "" || len(to) < 3 {
		return errors.New("-domain and three hosts at least are needed")
	}
	c := live{remote: remote{to, o.via, o.offCmd, o.onCmd, o.kind()}, site: o.site, probe: o.probe, bound: o.bound}
	r := newReport(*o, o.kind(), len(to))
	for n := 1; n <= o.runs && len(r.Failed) < o.failures; n++ {
		steps, err := o.steps(n)
		if err != nil {
			return err
		}
		v, err := c.once(ctx, n, steps)
		if err != nil {
			return fmt.Errorf("run %d, %v: %w", n, steps, err)
		}
		r.add(v)
		fmt.Fprintf(o.progress, "%3d/%d %s\n", n, o.runs, v.line())
		if err := r.write(o.out); err != nil {
			return err
		}
		if v.over() {
			return fmt.Errorf("run %d: %s; look into it before going on", n, v.line())
		}
	}
	r.table(o.progress)
	return r.err()
}

func (c live) once(ctx context.Context, n int, steps []step) (v verdict, err error) {
	v = verdict{Run: n, Steps: steps, Unjudged: []string{"frames and answers: not seen here"}}
	now := func() (standing, error) { return c.now(ctx) }
	if err := c.well(ctx, now); err != nil {
		return v, fmt.Errorf("before the run: %w", err)
	}
	v.from = time.Now()
	in := injector{executor: c, site: c.site, now: now, id: fmt.Sprintf("run%d-%d", n, time.Now().Unix())}
	if v.Faults, err = in.inject(ctx, steps); err != nil {
		return v, err
	}
	stopped := time.Now()
	if err := sleep(ctx, settle); err != nil {
		return v, err
	}
	why := c.well(ctx, now)
	v.RecoveryMS = ms(time.Since(stopped))
	if v.story, err = c.story(ctx); err != nil {
		return v, err
	}
	v.excused(why)
	v.outageSeen()
	return v, nil
}

// well waits until the guest is protected, and the probe succeeds.
func (c live) well(ctx context.Context, now func() (standing, error)) error {
	ctx, cancel := context.WithTimeout(ctx, c.bound)
	defer cancel()
	if err := protected(ctx, now, ask); err != nil || c.probe == "" {
		return err
	}
	for {
		out, err := shell(ctx, c.probe, c.site.Domain).CombinedOutput()
		if err == nil {
			return nil
		}
		if sleep(ctx, ask) != nil {
			return fmt.Errorf("the guest does not serve: %w: %s", err, out)
		}
	}
}

// hamgr asks whichever node answers.
func (c live) hamgr(ctx context.Context, command string, to any) (err error) {
	for _, h := range c.hosts() {
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		text, e := c.run(try, h, "hamgr "+command+" -o json\n")
		cancel()
		if e == nil {
			return json.Unmarshal([]byte(text), to)
		}
		err = errors.Join(err, e)
	}
	return err
}

func (c live) now(ctx context.Context) (standing, error) {
	var s api.Status
	if err := c.hamgr(ctx, "status", &s); err != nil {
		return standing{}, err
	}
	for _, p := range s.Protections {
		if p.Domain == c.site.Domain {
			return standing{time.Now(), p.Primary, p.Backup, p.Phase, p.Generation}, nil
		}
	}
	return standing{}, fmt.Errorf("%s is not protected", c.site.Domain)
}

// story is told by the cluster's events.
func (c live) story(ctx context.Context) (out []standing, err error) {
	var events []core.Event
	if err := c.hamgr(ctx, "events", &events); err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.Domain != c.site.Domain {
			continue
		}
		s := standing{Time: e.Time, Generation: e.Generation, Primary: e.Node}
		switch e.Kind {
		case core.Assign:
			s.Phase, s.Backup = core.Syncing, e.Target
		case core.Synced:
			s.Phase, s.Backup = core.Protected, e.Target
		case core.GoSolo:
			s.Phase, s.Primary = core.Solo, e.Target
		case core.FailOver:
			s.Phase, s.Primary = core.Recovering, e.Target
		case core.Restored:
			s.Phase = core.Solo
		case core.MarkLost:
			s.Phase = core.Lost
		default:
			continue
		}
		out = append(out, s)
	}
	return out, nil
}
