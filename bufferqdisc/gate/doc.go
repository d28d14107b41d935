// Package gate is a deadline for a guest's output, kept by the kernel: until then what
// the guest sends passes as if the gate were not there, from then on it waits, until there
// is a new deadline.
//
//	guest's tap --ingress--> before the deadline: on to the buffer, or the bridge
//	      ^                  after it: redirect --> our TAP: it waits
//	      `--- mark + redirect <--ingress-- our TAP <--write, read-- a new deadline
//
// It carries a lease. Where the output is open and no buffer fences it (invariant I2:
// mode checkpoint, and solo), the gate closes it in time even when this process is
// stopped, starved or killed: filter, program and deadline are the kernel's, and an
// extension is the only thing that needs us.
//
// A lease that is late, for want of a processor or while the managers elect a leader, costs
// the guest time and no packet. A host that never gets another one drops what waits, with
// Abandon or by its end: a redirect to a device that is gone drops the packet. On its way
// out what waited passes two programs that know the deadline, our TAP's and the gate again.
//
// The clock is CLOCK_BOOTTIME, which goes on while the host is suspended, read by
// bpf_ktime_get_boot_ns (bpf-helpers(7), Linux 5.8). A packet counts when the tap
// receives it from the guest, or back from our TAP; what has passed may still be on its way
// through the bridge and the queues behind it, so who takes over adds a margin for that.
package gate
