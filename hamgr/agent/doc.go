// Package agent makes one host match what the cluster has decided.
//
// For every protection whose primary is this node it owns a goroutine (primary.go)
// that arms the checkpoint stream, runs the epochs and releases output; for every
// protection whose backup is this node it keeps the replica and the standby
// (backup.go). One goroutine (reconcile.go) compares the agreed state with what runs
// here and starts, redirects and stops the others; it alone touches the tables of
// jobs. Nothing here decides who may run: the agent proposes with the generation it
// acted on and obeys what comes back (invariants I2 and I3 of ARCHITECTURE.md).
package agent
