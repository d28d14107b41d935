// Command bench measures what the README promises: sections of figures, each from real
// runs in a lab, written to out/bench/<section>.json and shown as a table. A figure that
// could not be measured is an error, a target that was missed the exit status.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

// section is a group of figures. Each has a file of its own here, and an entry in sections.
type section struct {
	name  string // of its result, and in -only
	limit time.Duration
	run   func(context.Context, *run) error
}

// sections are all there are, in the order in which they run.
var sections = []section{path, failover, packets}

// run is what a section works with.
type run struct {
	*Report
	out   string // its directory for logs
	began time.Time
}

// say tells a person what is going on.
func (r *run) say(format string, args ...any) {
	fmt.Printf("[%5.1f s] %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func main() {
	lab.Init()
	if len(os.Args) == 3 && os.Args[1] == releaseOrder {
		if err := printReleases(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("only", "", "sections, separated by commas (default: all): "+strings.Join(names(), ", "))
	out := flag.String("out", "out/bench", "directory for results and logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func names() (list []string) {
	for _, s := range sections {
		list = append(list, s.name)
	}
	return list
}

func measure(ctx context.Context, only, out string) error {
	wanted := names()
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, w := range wanted {
		if !slices.Contains(names(), w) {
			return fmt.Errorf("no section %q; there are %s", w, strings.Join(names(), ", "))
		}
	}
	var errs []error
	for _, s := range sections {
		if slices.Contains(wanted, s.name) {
			errs = append(errs, s.measure(ctx, out))
		}
	}
	return errors.Join(errs...)
}

// measure runs one section. What was measured before an error is written with it.
func (s section) measure(ctx context.Context, out string) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	r := &run{Report: NewReport(s.name), out: out + "/" + s.name, began: time.Now()}
	err := s.run(ctx, r)
	if err != nil {
		r.Error = err.Error()
	}
	err = errors.Join(err, r.Write(out), r.missed())
	fmt.Println()
	r.Table(os.Stdout)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}
