// Command commitcheck judges a saved run: a capture (pcapng, as package commit saves it),
// the traces of all nodes, and what was done to the hosts. It writes the report as JSON; its exit status is 1 when a
// promise was broken, 2 when that cannot be told.
//
//	commitcheck -frames frames.pcapng -options options.json [-plot commit.png] h1-trace.jsonl h2-trace.jsonl ...
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
)

func main() {
	frames := flag.String("frames", "", "the capture")
	plot := flag.String("plot", "", "draw a picture (PNG) into this file, too")
	options := flag.String("options", "", "whose output is judged, and what was done to the hosts: options.json of a saved run")
	flag.Parse()
	report, err := judge(*frames, *options, flag.Args())
	if err == nil {
		err = report.Write(os.Stdout)
	}
	if err == nil && *plot != "" {
		err = report.Plot(*plot)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "commitcheck:", err)
		os.Exit(2)
	}
	if err := report.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "commitcheck:", err)
		os.Exit(1)
	}
}

func judge(capture, options string, traces []string) (r commit.Report, err error) {
	if capture == "" || options == "" || len(traces) == 0 {
		return r, fmt.Errorf("want -frames, -options and the traces of all nodes; see -help")
	}
	o, err := commit.LoadOptions(options)
	if err != nil {
		return r, err
	}
	f, err := os.Open(capture)
	if err != nil {
		return r, err
	}
	defer f.Close()
	frames, err := commit.Load(f)
	if err != nil {
		return r, err
	}
	var events []trace.Event
	for _, name := range traces {
		more, err := read(name)
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		events = append(events, more...)
	}
	if len(frames) == 0 || len(events) == 0 {
		return r, fmt.Errorf("nothing to judge: %d frames, %d events", len(frames), len(events))
	}
	return commit.Check(frames, events, o), nil
}

func read(name string) ([]trace.Event, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return trace.Read(f)
}
