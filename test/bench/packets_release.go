package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hamgr/hamgr/test/bench/tapnet"
	"github.com/hamgr/hamgr/test/lab"
)

const (
	releaseOrder  = "release" // the argument that makes this program print its releases
	releaseRounds = 9
	umlLimit      = 3 * time.Minute
	binDir        = "/opt/bench" // where a lab's host has this program
)

// epochSizes are in packets.
var epochSizes = []int{1000, 2000, 5000, 10_000}

// releases measures how long an epoch takes to leave: the relay's on this kernel, the
// plug's on a kernel in a process (user-mode-linux), which has it and is slow.
func releases(ctx context.Context, r *run) error {
	took, err := releaseHere("relay")
	if err != nil {
		return err
	}
	if err := addReleases(r, "relay", "this machine's kernel", took); err != nil {
		return err
	}
	return releasesOnUML(ctx, r, "plug", "relay")
}

// releaseHere has ms for each of epochSizes, in rounds.
func releaseHere(backend string) (took [][]float64, err error) {
	took = make([][]float64, len(epochSizes))
	for range releaseRounds {
		round, err := tapnet.Release(backend, epochSizes)
		if err != nil {
			return nil, err
		}
		for i, d := range round {
			took[i] = append(took[i], ms(d))
		}
	}
	return took, nil
}

// printReleases is what this program does on a host of the lab.
func printReleases(backend string) error {
	took, err := releaseHere(backend)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

func releasesOnUML(ctx context.Context, r *run, backends ...string) error {
	r.say("releases on a host with a kernel of its own")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := lab.Prepare(ctx, io.Discard)
	if err != nil {
		return err
	}
	logs := filepath.Join(r.out, "uml")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Spec{Root: p.Root, RunDir: logs, Hosts: 1, Kind: lab.UML, Binds: []lab.Bind{{From: filepath.Dir(self), To: binDir}}, Progress: io.Discard})
	if err != nil {
		return err
	}
	defer l.Down()
	ctx, cancel := context.WithTimeout(ctx, umlLimit)
	defer cancel()
	for _, backend := range backends {
		var took [][]float64
		c := l.Host("h1").Command(ctx, binDir+"/"+filepath.Base(self), releaseOrder, backend)
		var said strings.Builder
		c.Stderr = &said
		out, err := c.Output()
		if err == nil {
			err = json.Unmarshal(out, &took)
		}
		if err != nil {
			return fmt.Errorf("releases by the %s on a host of kind %s: %w: %s", backend, lab.UML, err, said.String())
		}
		if err := addReleases(r, backend, "a user-mode-linux kernel", took); err != nil {
			return err
		}
	}
	return nil
}

// addReleases reports the largest epoch, and whether its packets cost what those of the
// smallest do.
func addReleases(r *run, backend, kernel string, took [][]float64) error {
	parts := map[string]float64{}
	for i, n := range epochSizes {
		parts[fmt.Sprintf("packets_%d_p50", n)] = median(took[i])
		parts[fmt.Sprintf("packets_%d_max", n)] = quantile(took[i], 1)
	}
	last := len(epochSizes) - 1
	err := r.Add(Figure{Name: fmt.Sprintf("release of %d packets, %s, %s", epochSizes[last], backend, kernel), Value: median(took[last]), Unit: "ms", Samples: releaseRounds, Parts: parts,
		How: "64-byte packets of one epoch: from the call of Release to the last of them behind the bridge; epochs of all sizes in each round; medians"})
	if err != nil {
		return err
	}
	// Of the fastest in each: what a busy machine adds is no matter of the number.
	times := quantile(took[last], 0) / quantile(took[0], 0)
	return r.Add(Figure{Name: fmt.Sprintf("release, growth from %d to %d packets, %s, %s", epochSizes[0], epochSizes[last], backend, kernel), Value: times, Unit: "x", Target: AtMost(1.5 * float64(epochSizes[last]) / float64(epochSizes[0])), Samples: releaseRounds,
		How: "the fastest release of the one over that of the other; target: what a straight line through 0 gives, and half as much again"})
}
