// Package cluster is the Raft shell around hamgr/core.
//
// The managers (3 or 5) are Raft's voters: those of the configuration begin a new cluster,
// from then on Raft's own configuration is the truth, and part of the state. Every other
// node is a non-voter, added by the leader when it registers, and follows the same log. The log
// carries core.Command as JSON; core.Apply makes it State on every node. Nothing here
// decides anything about a protection: RunLeader asks core.Decide and proposes its answers.
//
// A node's log may be old when it starts, and replaying it passes through states long
// gone. An agent that took one of them for the present could open the output of a guest
// that another host owns by now. So State stays empty until this process has Registered
// with the leader and has seen its own registration in the log: from there on what it
// shows is no older than the moment it started.
//
// A node without a log may be new, or have lost it: a second cluster beside one that is
// there, or a vote given twice, would be the end of all promises. So it takes part in
// nothing before it has asked the others (join).
//
// Goroutines, all ended by Close: those of hashicorp/raft; nudge (follower commit index),
// members (servers and their addresses), join, the event queue, and one for each Propose or
// change of the managers under way.
//
// On disk, under Config.Dir: lock (one process per directory), wal/ (raft-wal: log, term
// and vote, synced at each append), snapshots/.
package cluster
