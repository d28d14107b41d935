// Package core is what the cluster agrees on, as pure functions.
//
// Apply is the one transition function of the state: Raft calls it with each committed
// command, in the same order on every node. Decide is what the leader makes of the
// state and of who is alive; its answers are commands, which go through Raft like
// everybody else's. There is no clock, network or goroutine here: time comes in with
// the command or with the View.
//
// Who may run and who may emit is decided here and nowhere else (invariant I3 of
// ARCHITECTURE.md): each command on a protection carries the generation that it was
// decided on and changes nothing when that is no longer the current one. Of two
// commands that race, one finds its generation gone.
package core
