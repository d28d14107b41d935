// Command campaign lets a protected guest's hosts fail at random, again and again, and
// checks after each failure that output commit held. It stops at the first violation and
// keeps what is needed to look into it. Then it does the same in mode checkpoint, where
// output is not held, and counts what was rolled back.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/test/lab"
)

func main() {
	lab.Init()
	var o options
	flag.IntVar(&o.runs, "runs", 10, "failures")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all that is random")
	flag.StringVar(&o.hosts, "hosts", "container", "kind of the hosts: container or uml")
	flag.StringVar(&o.out, "out", "out/commit", "directory for the report and pictures")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "campaign:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	fmt.Printf("%d failures on %s hosts, seed %d\n", o.runs, o.hosts, o.seed)
	c, err := begin(ctx, o)
	if err != nil {
		return err
	}
	defer c.rig.Down()
	err = c.buffer(ctx, schedule(o.seed, o.runs))
	if err == nil {
		err = c.checkpoint(ctx)
	}
	if e := c.result.write(o.out, c.sum); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("%w (seed %d; report, captures and logs in %s)", err, o.seed, o.out)
	}
	c.result.table(os.Stdout, c.sum)
	return nil
}
