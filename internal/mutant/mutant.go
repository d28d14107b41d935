// Package mutant makes hamgr err on purpose, in one of the ways that its forerunners did
// or that a cluster without its agreement would, so that the tests can show that they
// would notice: test/commit those of output commit, test/chaos those of the agreement. The
// mistakes are made only in a binary built with the tag mutant that is told which by
// $HAMGR_MUTANT; in any other Is is constantly false, and the compiler leaves the mistakes
// out.
package mutant

import "slices"

// Mistake names one way to break a promise.
type Mistake string

// Mistakes about output commit, and whose they were.
const (
	// ReleaseWhenWritten lets an epoch go when its checkpoint is written to the
	// connection, not when it is committed (Xen Remus, libxl_stream_write.c).
	ReleaseWhenWritten Mistake = "release-when-written"
	// ReleaseOnError opens the output when a session ends with an error (QEMU
	// micro-checkpointing, mc_disable_buffering on every exit).
	ReleaseOnError Mistake = "release-on-error"
	// AckBeforeApply has the backup acknowledge a checkpoint before it has applied it
	// (QEMU micro-checkpointing).
	AckBeforeApply Mistake = "ack-before-apply"
	// IgnoreFailedCommit takes a commit that failed for one that did not (Xen's DRBD glue).
	IgnoreFailedCommit Mistake = "ignore-failed-commit"
	// OnlyIP buffers IPv4 and nothing else (Xen, remus-netbuf-setup).
	OnlyIP Mistake = "only-ip"
	// SecondBuffer is what comes of a BUFFER before the RELEASE of the one before
	// (sch_plug): the plug strands packets; the relay lets one epoch too many go.
	SecondBuffer Mistake = "second-buffer"
)

// Mistakes about the cluster's agreement: a host acts on what it sees. test/sim has them,
// too, under the same names.
const (
	// LeaseWithoutFencing leaves it to the process to close the gate when its lease is
	// over, and not to the kernel: one that stands still does not (etcd#11457,
	// hashicorp/raft#568).
	LeaseWithoutFencing Mistake = "lease-without-fencing"
	// FailoverWithoutRaft has a backup whose primary falls silent restore the guest: who
	// cannot be heard is taken for dead.
	FailoverWithoutRaft Mistake = "failover-without-raft"
	// SoloWithoutRaft has a primary whose commits stop go solo when it asks for leave, and
	// not when it is given. ReleaseOnError differs in that it lets go however a session
	// ends, as one does whose guest is another host's already.
	SoloWithoutRaft Mistake = "solo-without-raft"
)

// The groups, by what it takes to see them: every frame of one guest; or hosts that are
// cut off or stand still, as well.
var (
	OutputCommit = []Mistake{ReleaseWhenWritten, ReleaseOnError, AckBeforeApply, IgnoreFailedCommit, OnlyIP, SecondBuffer}
	Agreement    = []Mistake{LeaseWithoutFencing, FailoverWithoutRaft, SoloWithoutRaft}
)

// All of them; a function, as a variable made of others would be in every binary.
func All() []Mistake { return slices.Concat(OutputCommit, Agreement) }
