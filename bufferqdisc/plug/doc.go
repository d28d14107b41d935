// Package plug is the output buffer by the kernel's own sch_plug: packets wait in the
// kernel and are not copied.
//
//	guest's tap --ingress--> mirred redirect --> ifb: root qdisc plug --> as if just
//	received from the tap
//
// The filter and the ifb are there from New to Teardown; an open plug lets everything
// through. Nothing of this depends on our process: when it dies the plug stays as it is,
// open or holding, and LetGo finds what is held. The qdisc is net/sched/sch_plug.c, its
// messages struct tc_plug_qopt of include/uapi/linux/pkt_sched.h.
//
// What the kernel gives and does not give shapes this package: a plug remembers one
// ended epoch only, so a second is refused until the first is released; a reset of the
// qdisc (the ifb set down) empties the queue but not its counters, so a Release after
// one is refused, as it could let packets of the epoch under way go; its state cannot be
// read back, so epochs of another process are never told apart.
//
// What somebody else does to these devices, qdiscs and filters is heard of at the next
// EndEpoch or Release. It is put back then, shut, and no epoch is committed whose
// packets may be out.
package plug
