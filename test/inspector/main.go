// Command inspector stands in for OPNFV Doctor's inspector in demos and tests.
//
//	inspector [-listen ADDRESS] FILE
//
// It appends a line of JSON to FILE for each event: {"received": when, "event": {...}}.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "inspector:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	listen := flag.String("listen", ":12345", "where events arrive, host:port; the default is Doctor's")
	flag.Parse()
	if flag.NArg() != 1 {
		return fmt.Errorf("want one argument, the file to append to, got %d", flag.NArg())
	}
	out, err := os.OpenFile(flag.Arg(0), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	srv := &http.Server{Addr: *listen, Handler: (&inspector{out: out}).handler(), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}
