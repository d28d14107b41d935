// Command demo shows the whole path: a protected guest outlives its host, and the TCP
// connection of its client goes on.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/control"
	"github.com/hamgr/hamgr/test/testbed"
)

func main() {
	lab.Init()
	keep := flag.Bool("keep", false, "leave everything running until interrupted")
	out := flag.String("out", "out/demo", "directory for the report")
	hosts := flag.String("hosts", string(lab.Container), "what the hosts are: container, or uml, each with a kernel of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out, lab.Kind(*hosts), *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, kind lab.Kind, keep bool) error {
	if keep {
		server, asked, err := control.Listen(ctx, control.DefaultDir())
		if err != nil {
			return err
		}
		defer server.Close()
		return demo(asked, out, kind, server)
	}
	return demo(ctx, out, kind, nil)
}

// demo leaves everything running for a server, if there is one, until ctx ends.
func demo(ctx context.Context, out string, kind lab.Kind, keep *control.Server) error {
	say("three hosts, each with libvirtd and hamgr, and a client")
	b, err := testbed.Up(ctx, testbed.Options{Hosts: 3, Kind: kind, Out: out, Progress: os.Stdout})
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
	if keep != nil {
		keep.Serve(b.Lab, filepath.Join(b.Out, "logs"))
		tryNext()
		<-ctx.Done()
	}
	return report.Verdict()
}

func tryNext() {
	fmt.Println("\nleft running until you press ^C; in another terminal:")
	for _, what := range []string{"exec h2 -- hamgr status --watch", "exec h2 -- hamgr events", "exec h2", "start h1", "poweroff h2", "--help"} {
		fmt.Println("  out/bin/lab " + what)
	}
}

var began = time.Now()

func say(what string) { fmt.Printf("[%5.1f s] %s\n", time.Since(began).Seconds(), what) }
