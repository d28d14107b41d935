// Package relay is the output buffer for kernels without sch_plug: packets wait in the
// queue of a TAP of ours, and take their way through this process when they are released.
//
//	guest's tap --ingress--> not marked: redirect --> hold TAP: packets, epoch's end, ...
//	guest's tap <--ingress-- mark + redirect <-- release TAP <--write, read-- released
//	     `-> marked: on to the bridge, as if just received
//
// The tap stays in its bridge and inbound traffic is untouched. Both TAPs carry vnet
// headers, so that large (GSO) packets stay whole and checksums stay offloaded.
//
// An epoch's end is a frame of ours in the hold TAP's queue. To put it there takes the same
// time however much waits, and nothing is read while the guest sends: a released packet
// is read and written at once, through one small buffer. What waits is the kernel's, but for
// one packet of each NIC that was written too late and is to be written again; the program on
// the tap counts it and keeps it within its limits.
//
// The filter is on the guest's tap only while packets are held: an open buffer costs
// nothing, and the death of this process leaves an open guest its network. The two TAPs
// live as long as this process, the filter on the guest's tap longer, and a redirect to
// a device that is gone drops the packet: a process that dies while it holds leaves the
// guest cut. bpf-helpers(7); kernel net/core/filter.c, drivers/net/tun.c.
package relay
