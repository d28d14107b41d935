// Package relay is the output buffer for kernels without sch_plug: packets take a way
// through this process and wait here.
//
//	guest's tap --ingress--> not marked: redirect --> hold TAP --read--> [epochs]
//	guest's tap <--ingress-- mark + redirect <-- release TAP <--write-- released
//	     `-> marked: on to the bridge, as if just received
//
// The tap stays in its bridge and inbound traffic is untouched. Both TAPs carry vnet
// headers, so that large (GSO) packets stay whole. The TAPs live as long as this
// process, the filter on the guest's tap longer: a redirect to a device that is gone
// drops the packet. tc-bpf(8); kernel net/core/filter.c, drivers/net/tun.c.
package relay
