// Package relay is the output buffer for kernels without sch_plug: packets take a way
// through this process and wait here.
//
//	guest's tap --ingress--> not marked: redirect --> hold TAP --read--> [epochs]
//	guest's tap <--ingress-- mark + redirect <-- release TAP <--write-- released
//	     `-> marked: on to the bridge, as if just received
//
// The tap stays in its bridge and inbound traffic is untouched. Both TAPs carry vnet
// headers, so that large (GSO) packets stay whole and checksums stay offloaded.
//
// The filter is on the guest's tap only while packets are held: an open buffer costs
// nothing, and the death of this process leaves an open guest its network. The two TAPs
// live as long as this process, the filter on the guest's tap longer, and a redirect to
// a device that is gone drops the packet: a process that dies while it holds leaves the
// guest cut. bpf-helpers(7); kernel net/core/filter.c, drivers/net/tun.c.
package relay
