// Command lab makes hosts on this machine and stays until interrupted.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hamgr/hamgr/test/lab"
)

func main() {
	lab.Init()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	p, err := lab.Prepare(ctx, os.Stdout)
	if err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Spec{Root: p.Root, RunDir: "out/lab", Hosts: 3, Progress: os.Stdout})
	if err != nil {
		return err
	}
	defer l.Down()
	fmt.Printf("a shell on h1: nsenter -t %d -a\n", l.Host("h1").Pid())
	<-ctx.Done()
	return nil
}
