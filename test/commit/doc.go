// Package commit checks output commit (invariants I1, I2 and I5) from outside: it sees
// every frame where the guest emits it and again where it reaches the network, and knows
// from the traces of all nodes (package trace) when each epoch ended and when its
// checkpoint was committed.
//
// # Which frames may leave when
//
// The guest emits a frame at G: its tap on that host receives it, before any buffer. The
// guest stands still at each boundary T, so the frame belongs to the first epoch whose
// T is not before G. The backup writes down the time C of each commit before it tells
// the primary. The frame reaches the network at N, the host's port at the switch. Where
// output is to be held, N must not be before C of its epoch, or of a later one, or the
// cluster's leave to run without a backup. No word of the buffer's enters into this,
// and nothing depends on what kind of frame it is.
//
// Output is to be held from the time the primary says that it holds, or a node learns
// that the protection is in force, whichever is first; until the cluster has said
// otherwise under a higher generation, in another mode, or not at all any more. After
// the cluster has given the guest to another host, nothing of it may leave but what was
// committed; after a restore, nothing that was seen may be of a later epoch than the
// restored one.
//
// A frame is found again by its octets, without the checksums that are filled in on the
// way. Of frames that are all alike the k-th may leave when k of them could have.
//
// # What the guest says
//
// Independent of all that, the guest's own words are compared: replies of the ledger
// (test/guest/ledger) reveal its state, and none may contradict one that was seen before;
// TCP may not take back what it has acknowledged, nor send other octets in their place.
//
// # Which requests may be lost
//
// None, with the input handler at work (bufferqdisc/input): each time that a request over
// UDP has passed the switch, it has to be answered, whatever failed, but for these:
//
//   - It reached nobody who could keep it. It was under way to a host whose link was down, or
//     was being cut as the host lost power (later ones the switch floods, and the backup
//     hears them). From the restore on, and until the network had seen that NIC elsewhere, it
//     went to a host that was given up and lives; but not to one where only QEMU had died,
//     which copies it. It went to a primary that was cut off from its backup, and then lost the guest:
//     the copies took the link that was down.
//   - The guest answered, and the answer was lost by a link that was down, or held by an agent
//     that died: that drops it (I6), while the guest lives and need not answer again.
//   - Its agent died. What waited while the guest was being stopped goes with the agent: that
//     came after the last epoch which it saw to its end, and before it was gone. And what the
//     successor clears away stops the tap for an instant, between the order to let the guest
//     run alone and the opening of the output. In between, nobody is needed to reach the guest;
//     only if it stood still then, as its agent died in a pause, QEMU takes one packet of each
//     NIC in, and throws it away, before the successor lets the guest run.
//   - A session began: before its first checkpoint nothing is copied and nothing could be
//     restored, and QEMU stops the guest once when it likes, and drops what it takes in then.
//   - An epoch ended, of which the agent notes that the guest had not taken all that was
//     queued for it: QEMU throws away one packet of each NIC there.
//
// So a gap is: what came while QEMU stopped the guest for a checkpoint; what a dead host had
// and no checkpoint contains; what the switch flooded until the guest ran again; what it sent to
// where QEMU had died; what was held when the backup died, or was cut off. Of a request that
// was sent several times, each transmission needs an answer of its own that the guest gave
// after it; to which of those before it an answer belongs cannot be told.
package commit
