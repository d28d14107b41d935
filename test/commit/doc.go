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
// UDP requests may stay without an answer only around a failure: the live window, from
// the last boundary that was committed before it until the guest is back.
package commit
