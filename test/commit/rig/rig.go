// Package rig is a testbed under the eyes of package commit: all frames are recorded, all
// nodes trace, and a load of TCP and UDP over IPv4 and IPv6 on two NICs keeps asking.
package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/hamgr/hamgr/test/commit"
	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/guest/image"
	"github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/testbed"
)

// Options of a rig.
type Options struct {
	Kind     lab.Kind // of the hosts; containers by default
	Out      string   // directory for binaries, logs and captures
	Progress io.Writer
	Mutants  bool // hamgr is built so that it can be told to make mistakes
	Nodes    int  // hosts that can have the guest; 3 if zero, 2 do where none is to lose power

	Each func(load.Exchange) // called for every request of a load; none if nil
}

// Rig is a running testbed with a guest g1, watched.
type Rig struct {
	*testbed.Bed
	Began    time.Time // from when on the guest served
	kind     lab.Kind
	recorder *commit.Recorder
	traces   *traces
	faults   []commit.Fault
	mutated  time.Time // when hamgr was last told what mistake to make, or none
	loads    int
	each     func(load.Exchange)
}

// nics are the guest's, each in a network of its own on the same wire.
var nics = []image.NIC{
	{MAC: "52:54:00:78:00:01", IP: "10.78.0.201/24", IP6: "fd78::201/64"},
	{MAC: "52:54:00:78:00:02", IP: "10.79.0.201/24", IP6: "fd79::201/64"},
}

// Up starts the hosts, listens, and starts the guest on h1.
func Up(ctx context.Context, o Options) (*Rig, error) {
	tags, nodes := "", cmp.Or(o.Nodes, 3)
	if o.Mutants {
		tags = "mutant"
	}
	r := &Rig{kind: o.Kind, recorder: commit.NewRecorder(), each: o.Each}
	var err error
	r.Bed, err = testbed.Up(ctx, testbed.Options{
		Hosts: nodes, Kind: o.Kind, Out: o.Out, Progress: o.Progress, Tags: tags, Programs: []string{"test/commit/listen"},
		Serve: func(args []string) []string {
			return mutable(append(args, "--trace", r.traceOnHost()))
		},
	})
	if err != nil {
		return nil, err
	}
	r.traces = newTraces(filepath.Join(r.Out, "logs"), r.Nodes())
	if err := r.start(ctx); err != nil {
		r.Down()
		return nil, err
	}
	r.Began = time.Now()
	return r, nil
}

func (r *Rig) start(ctx context.Context) error {
	for _, h := range append([]string{"client"}, r.Nodes()...) {
		if err := r.listen(h); err != nil {
			return err
		}
	}
	for _, a := range []string{"10.79.0.100/24", "fd79::100/64"} {
		if _, err := r.Host("client").Exec(ctx, "ip", "address", "add", a, "dev", "eth1", "nodad"); err != nil {
			return err
		}
	}
	if err := r.WaitCluster(ctx); err != nil {
		return err
	}
	if r.kind == lab.UML { // what a slow host has to find out is not to be found out in a hurry later
		if err := r.Bed.Check(ctx); err != nil {
			return err
		}
	}
	g := image.Guest{Name: "g1", MemoryMiB: 128, MAC: nics[0].MAC, IP: nics[0].IP, IP6: nics[0].IP6, NICs: nics[1:]}
	if err := r.Start(ctx, "h1", g); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.Patience())
	defer cancel()
	return load.Ready(ctx, r.load(0, 0), 7080) // HTTP, which the ledger serves last
}

// traceOnHost is where a host's hamgr traces.
func (r *Rig) traceOnHost() string {
	if r.kind == lab.UML {
		return "/run/" + traceFile // to be read there
	}
	return "/var/log/lab/" + traceFile
}

// listen records a host from now on, anew after it was started again.
func (r *Rig) listen(host string) error {
	h := r.Host(host)
	if err := r.recorder.Outside(host, r.Switch().Pid(), h.Port("guest")); err != nil {
		return err
	}
	switch {
	case host == "client":
		return nil
	case r.kind == lab.UML:
		cmd := h.Command(context.Background(), "/opt/hamgr/bin/listen", "-host", host, "-trace", r.traceOnHost())
		return r.recorder.InsideKernel(host, cmd)
	}
	return r.recorder.Inside(host, h.Pid())
}

// Patience is what a guest may take to be protected again, and a client to be answered, on
// a machine that is busy with all of these hosts.
func (r *Rig) Patience() time.Duration {
	if r.kind == lab.UML {
		return 4 * time.Minute
	}
	return 90 * time.Second
}

// PowerOff takes a host's power and ends it. What a kernel of its own has heard until then is
// brought here first; from outside, nothing can be told of that.
func (r *Rig) PowerOff(host string) error {
	h := r.Host(host)
	err := r.during(commit.PowerOff, host, func() error {
		_, err := h.LosePower()
		return err
	})
	if r.kind == lab.UML {
		if err := errors.Join(err, r.recorder.Await(time.Now())); err != nil {
			return err
		}
	}
	_, off := h.PowerOff()
	return errors.Join(err, off)
}

// Boot starts a host that was powered off.
func (r *Rig) Boot(host string) error {
	if err := r.Host(host).Start(); err != nil {
		return err
	}
	return r.listen(host)
}

// Down ends all.
func (r *Rig) Down() {
	r.recorder.Close()
	r.traces.close()
	r.Bed.Down()
}

// Protect protects the guest, which is on h1. On a host with a kernel of its own a checkpoint
// takes 100 ms, most of it system calls.
func (r *Rig) Protect(ctx context.Context) error {
	var flags []string
	if r.kind == lab.UML {
		flags = []string{"--epoch", "100ms"}
	}
	if text, err := r.Bed.Protect(ctx, "h1", "g1", flags...); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return nil
}
