// Package sim runs hamgr's decisions against simulated hosts, networks, clocks and guests.
//
// A Schedule is a set-up and a list of faults; one seed draws one schedule, and everything
// that happens follows from it: no goroutine, no clock, no map order. Run plays it in
// virtual time and checks the invariants of ARCHITECTURE.md at every step; then it ends
// the faults and checks that every guest that can be served is served and protected
// again. Search plays many; Shrink makes one that fails small; Tell tells what happened in
// it. Command campaign is these for people: make sim SEEDS=n, make sim SEEDS=1 SEED=s.
//
// Mutants are mistakes that can be built in. That each is found is what says that nothing
// found means something. What two or three faults close together are needed for,
// drawTakeover draws.
//
// # What is real
//
//	hamgr/core          Apply, Decide
//	detector/judge      who is alive
//	detector/lease      until when a host may emit what nothing holds
//	hamgr/agent/rules   what a host does about a protection
//
// # What is modelled
//
//	raft.go, log.go         hashicorp/raft: terms, pre-votes, votes, replication, commit, the
//	                        leader's step-down; log, term and vote survive a crash
//	manager.go, propose.go  hamgr/cluster lead.go, voter.go, propose.go; api/forward.go
//	voters.go               hamgr/cluster managers.go; api/managers.go
//	hurry.go                hamgr/cluster hurry.go
//	agent.go                hamgr/agent agent.go, reconcile.go, host.go
//	primary.go, session.go  hamgr/agent primary.go, output.go, session.go, handover.go, ending.go
//	backup.go               hamgr/agent backup.go, storage
//	guest.go                a guest that counts, its memory, and what stands between it and the
//	                        network (bufferqdisc, its gate): the kernel's, so it outlives hamgr
//	net.go, stream.go       datagrams that are lost, late, doubled, reordered; TCP that is not
//
// Not modelled: disks' contents, the guest's input, managers that lose their log (cluster
// join.go), snapshots of Raft's log, loads of more than three guests.
//
// Times are those of times.go: the defaults of hamgr, most of them doubled so that fewer
// heartbeats are simulated; no rule depends on their size.
package sim
