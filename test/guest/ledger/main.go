// Command ledger is the test guest's only program: its init and its server in one. See
// package server for what it serves and package chain for the protocol.
//
// As process 1 it first makes a system out of a kernel (boot.go) and serves ports 7000
// (TCP, UDP) and 7080 (HTTP) of all addresses. As any other process it is a ledger on
// the host: ledger -listen 127.0.0.1:7000 -http 127.0.0.1:7080.
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/hamgr/hamgr/test/guest/ledger/server"
)

func main() {
	runtime.GOMAXPROCS(1) // the guest has one CPU, and fewer threads wake less often
	log.SetFlags(0)
	log.SetPrefix("ledger: ")
	if os.Getpid() == 1 {
		runInit()
	}
	var cfg server.Config
	flag.StringVar(&cfg.Listen, "listen", ":7000", "host:port for TCP and UDP; port 0 takes any")
	flag.StringVar(&cfg.HTTP, "http", ":7080", "host:port for HTTP; empty for none")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("no arguments wanted, got %q", flag.Args())
	}
	s, err := server.Start(cfg)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("ready on %s, HTTP on %s", s.Addr(), s.HTTPAddr())
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
}

// runInit is the life of process 1. It must not return: the kernel panics when its init
// ends, which is right when there is no network, as nothing else would show it.
func runInit() {
	if err := boot(); err != nil {
		log.Fatalf("boot: %v", err)
	}
	s, err := server.Start(server.Config{Listen: ":7000", HTTP: ":7080"})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("ready on %s, HTTP on %s, %s s after the kernel began", s.Addr(), s.HTTPAddr(), uptime())
	select {}
}

// uptime is the kernel's, in seconds, as it writes it.
func uptime() string {
	data, _ := os.ReadFile("/proc/uptime")
	seconds, _, _ := strings.Cut(string(data), " ")
	return seconds
}
