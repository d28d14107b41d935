// Package detector says which hosts are alive.
//
// Every node sends every other a small UDP heartbeat (10 ms apart by default) that
// also carries whom the sender suspects. From what arrives, and from what the kernels
// in between answer, each node makes a state per peer: alive, silent, process-down (package
// judge, which is pure; this package is its sockets and its clock).
//
// ProcessDown is a host whose kernel answers a heartbeat with ICMP port unreachable
// (RFC 1122, 3.2.2.1 and 4.1.3.3): the sender itself is gone, the host and what else
// runs on it are not. It is suspected only after ProcessGrace, time to be restarted.
// To see these answers each peer has a connected socket: Linux reports them there as
// ECONNREFUSED (udp(7)). A kernel limits how many it sends (one a second for each
// destination, icmp_ratelimit in icmp(7)), hence refusalFresh, and refusalPause for one that
// is killed again right after its restart. And what listens is closed first, however long the
// kernel takes to end the rest of a process that was killed: see early.
//
// How long a peer may be silent follows from how regular it was: four times the widest
// recent gap between its heartbeats, within Floor and Timeout (judge.Table.Adapt). A vote
// that changes is sent at once.
//
// One node's silence may be the other's deafness, so nobody acts on his own suspicion:
// Suspected asks for a majority of voters. A node that hears nobody suspects itself.
// The packet is laid out in packet.go. It is not authenticated: it belongs on a
// management network.
//
// Goroutines: Run owns two, the reader of the listening socket and the ticker that
// sends and judges; both have ended when Run returns. A Process owns one, which ends
// with the process or with Close.
package detector
