// Package input is the input handler of NFV-REL 002, clause 6.3.3: a failover is no burst
// of packet loss. Each packet forwarded to the primary is copied to the backup, which
// keeps it until a checkpoint contains it; after a failover the guest gets the copies
// first, in order, then live traffic.
//
//	PRIMARY                                      BACKUP
//	bridge --> tap's egress --> tap --> guest    socket --> [kept] ---.
//	              `- copy --> vxlan =============^                     +--> standby's tap
//	                                             bridge --> [heard] --'    (live waits: hold)
//
// # The copy
//
// A filter on the egress of the guest's tap clones each packet into a tunnel device
// (bpf-helpers(7), bpf_clone_redirect), whose own filter numbers it: WIRE.md. All of it
// happens in the kernel and before the tap itself gets the packet. So what the guest can
// have seen is on its way to the backup, however busy this process or its host is: a
// copy made in user space, by a Go program whose cores were busy, left 11 ms later in
// the median and 180 ms at worst. A full tunnel or a dead backup costs the guest nothing.
//
// # When a copy may go
//
// A packet in the tap's queue is not in the guest's memory, and so in no checkpoint. The
// kernel counts what was read from the tap and what the tap dropped, and the filter what
// it numbered; the queue is first in, first out. Of the first n numbered packets at most
// n minus the dropped ones were queued. Once that many have been read, the guest has them
// all: see account. The counters are read just before the guest is stopped, so what they
// call taken is in the checkpoint; what it takes in the instant between the two is kept
// for one checkpoint longer and would be delivered twice. Networks duplicate, that is allowed.
// What was in the queue when the counting began is in one count and not in the other; so it
// begins with the first copy of the guest's memory, and that has shown the difference when
// the copies begin.
//
// And a copy goes only when the next checkpoint has been committed too. When the backup
// commits, the answers exist nowhere but in the primary's output buffer, and when that has
// released them they may still be in a queue of the dying host. So a request comes a second
// time if the host dies within an epoch of answering it, and is answered again.
//
// # The live window
//
// A packet sent to a host that is dead reaches nobody there. But switches that lost the
// link to it flood what they have for the guest, to the backup too. There the bridge drops
// it, which has learned behind which port the guest is; so the handler listens at the
// ports, and keeps what is for the guest until the next checkpoint but one shows that the
// primary is alive. When the standby's tap is up, the bridge is told that the guest is
// there now; what comes in that instant is heard at both places and delivered twice.
//
// Where that could hear more than the guest may get, nothing is heard, and the live window
// is lost: at bridges that do not learn by themselves, that know VLANs, or whose ports are
// isolated, and for guests with libvirt's filters. Nothing is heard from other guests on
// the backup, either: what they send to the old place in that time is lost.
//
// # When the guest's process dies, and its host lives
//
// Then no link goes down, and the network sends to the old host until it hears from the
// new one. The tap would be gone with the process, and with it what comes; so the handler
// has the tap's file open as well. The tap stays, what comes is copied, and the restored
// guest gets it late.
//
// # What is not promised
//
// Limits in packets and bytes: beyond them the oldest copies are dropped and counted. The
// tunnel is UDP: what the management network loses is not sent again, only counted. Nobody
// has what was in the queues of the dying host's devices, not copied yet, or what a switch
// still sent to it because it had not noticed that the link is down.
package input
