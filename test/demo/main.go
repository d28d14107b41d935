// Command demo shows the whole path: a protected guest outlives its host, and the TCP
// connection of its client goes on.
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
	"github.com/hamgr/hamgr/test/testbed"
)

func main() {
	lab.Init()
	keep := flag.Bool("keep", false, "leave everything running until interrupted")
	out := flag.String("out", "out/demo", "directory for the report")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, keep bool) error {
	say("three hosts, each with libvirtd and hamgr, and a client")
	b, err := testbed.Up(ctx, testbed.Options{Hosts: 3, Out: out, Progress: os.Stdout})
	if err != nil {
		return err
	}
	defer b.Down()
	s := testbed.Scenario{Bed: b, Say: say, Show: func(text string) { fmt.Print(text) }, Seed: uint64(time.Now().UnixNano())}
	report, err := s.Run(ctx)
	if err != nil {
		return fmt.Errorf("%w; logs are in %s/logs", err, out)
	}
	if err := report.Write(out); err != nil {
		return err
	}
	fmt.Println()
	report.Table(os.Stdout)
	fmt.Printf("\n%s/report.json and %s/timeline.png have it all\n", out, out)
	if keep {
		tryNext(b)
		<-ctx.Done()
	}
	return report.Verdict()
}

func tryNext(b *testbed.Bed) {
	fmt.Println("\nleft running until you press ^C; in another terminal:")
	for _, what := range []string{"/opt/hamgr/bin/hamgr status --watch", "/opt/hamgr/bin/hamgr events", "virsh list"} {
		fmt.Printf("  nsenter -t %d -a -- %s\n", b.Host("h2").Pid(), what)
	}
}

var began = time.Now()

func say(what string) { fmt.Printf("[%5.1f s] %s\n", time.Since(began).Seconds(), what) }
