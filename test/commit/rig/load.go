package rig

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hamgr/hamgr/test/commit/load"
	"github.com/hamgr/hamgr/test/lab"
)

const (
	// slower is how many times as long clients wait on hosts with kernels of their own.
	slower = 4
	// again is when a request over UDP is sent again: often enough that some come while the
	// guest has no agent, which is over in half a second.
	again = 100 * time.Millisecond
)

// Load begins to ask the guest in every way; requests of a flow come every interval on
// the average, or what is that on slower hosts.
func (r *Rig) Load(interval time.Duration, seed uint64) (*load.Load, error) {
	r.loads++
	return load.Start(fmt.Sprintf("load%d", r.loads), r.load(interval, seed))
}

func (r *Rig) load(interval time.Duration, seed uint64) load.Options {
	var addresses []netip.Addr
	for _, n := range nics {
		for _, a := range []string{n.IP, n.IP6} {
			addresses = append(addresses, netip.MustParsePrefix(a).Addr())
		}
	}
	o := load.Options{
		Pid: r.Host("client").Pid(), Device: "eth1", Addresses: addresses, Port: 7000,
		Interval: interval, Again: again, Seed: seed, Patience: r.Patience(), Each: r.each,
		Refresh: 300 * time.Millisecond, Fleeting: addresses[:2],
	}
	if r.kind == lab.UML {
		o.Interval, o.Again = slower*o.Interval, slower*o.Again
	}
	return o
}
