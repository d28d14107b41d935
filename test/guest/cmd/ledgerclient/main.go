// Command ledgerclient runs the checking client until SIGTERM: a line of JSON per
// answer, and the result as the last line. With -get it asks the guest's web server once.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hamgr/hamgr/test/guest/client"
)

func main() {
	addr := flag.String("addr", "10.78.0.201:7000", "the ledger")
	name := flag.String("name", "client", "of this client, the ledger's only one of that name")
	interval := flag.Duration("interval", 15*time.Millisecond, "mean time between two requests")
	seed := flag.Uint64("seed", 1, "of the random part of the interval")
	patience := flag.Duration("patience", 30*time.Second, "how long one answer may take")
	udp := flag.Int("udp", 0, "so many clients over UDP instead of one over TCP")
	resend := flag.Duration("resend", 3*time.Second, "over UDP: when a request without an answer is sent again, and counted as lost")
	url := flag.String("get", "", "instead: a URL to get, within patience")
	flag.Parse()
	if *url != "" {
		if err := get(*url, *patience); err != nil {
			fmt.Fprintln(os.Stderr, "ledgerclient:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	out := json.NewEncoder(os.Stdout)
	each := func(s client.Sample) { out.Encode(s) }
	var r client.Result
	if *udp > 0 {
		r = client.RunUDP(ctx, client.UDPOptions{
			Addr: *addr, Name: *name, Clients: *udp, Interval: *interval, Seed: *seed, Resend: *resend, Patience: *patience, Each: each,
		})
	} else {
		r = client.Run(ctx, client.Options{Addr: *addr, Name: *name, Interval: *interval, Seed: *seed, Patience: *patience, Each: each})
	}
	out.Encode(map[string]client.Result{"result": r})
}

func get(url string, patience time.Duration) error {
	r, err := (&http.Client{Timeout: patience}).Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(os.Stdout, r.Body); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}
