// Command campaign plays many schedules of package sim, or one, and reports what they came
// to. A schedule that fails is made as small as it goes and told as a story; its file can
// be played again.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/test/sim"
)

type options struct {
	first, seeds uint64
	workers      int
	mutant       sim.Mutant
	stop         bool
	replay       string
	out          string
}

func main() {
	var o options
	flag.Uint64Var(&o.first, "seed", 0, "of the first schedule")
	flag.Uint64Var(&o.seeds, "seeds", 100_000, "how many schedules; of a single one the story is told in any case")
	flag.IntVar(&o.workers, "workers", runtime.GOMAXPROCS(0), "schedules at a time")
	flag.Func("mutant", fmt.Sprintf("build in a mistake: one of %v", sim.Mutants), o.setMutant)
	flag.BoolVar(&o.stop, "stop", false, "stop at the first failure")
	flag.StringVar(&o.replay, "replay", "", "play the schedule of this file, as a failed run leaves one, and tell its story")
	flag.StringVar(&o.out, "out", "out/sim", "directory for the report and the stories")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

func (o *options) setMutant(name string) error {
	for _, m := range sim.Mutants {
		if string(m) == name {
			o.mutant = m
			return nil
		}
	}
	return fmt.Errorf("there is no mutant %q", name)
}

func run(ctx context.Context, o options) error {
	if o.replay != "" {
		return replay(o)
	}
	r := newReport(o)
	search := &sim.Search{First: o.first, Seeds: o.seeds, Workers: o.workers, Mutant: o.mutant,
		Found: func(s sim.Schedule, v *sim.Violation) bool { return r.found(s, v) }}
	end := watch(ctx, search, r)
	sum := search.Run(ctx)
	end()
	if err := r.write(sum); err != nil {
		return err
	}
	if o.seeds == 1 && sum.Violations+sum.Unserved == 0 {
		sim.Tell(os.Stdout, sim.Draw(o.first), o.mutant)
	}
	return r.verdict(sum)
}

// replay plays one schedule from a file.
func replay(o options) error {
	text, err := os.ReadFile(o.replay)
	if err != nil {
		return err
	}
	var s sim.Schedule
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("%s is no schedule: %w", o.replay, err)
	}
	if err := s.Check(); err != nil {
		return fmt.Errorf("%s: %w", o.replay, err)
	}
	if v, _ := sim.Tell(os.Stdout, s, o.mutant); v != nil {
		return v
	}
	return nil
}

// watch says every few seconds how far the search is.
func watch(ctx context.Context, s *sim.Search, r *report) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				fmt.Fprintln(os.Stderr, r.progress(s.Done()))
			}
		}
	}()
	return func() { cancel(); <-done }
}
