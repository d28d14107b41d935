// Package mutant makes hamgr err on purpose, in one of the ways that its forerunners did,
// so that the tests can show that they would notice (test/commit). The mistakes are made
// only in a binary built with the tag mutant that is told which by $HAMGR_MUTANT; in any
// other Is is constantly false, and the compiler leaves the mistakes out.
package mutant

// Mistake names one way to break output commit.
type Mistake string

// The mistakes, and whose they were.
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

// All of them.
var All = []Mistake{ReleaseWhenWritten, ReleaseOnError, AckBeforeApply, IgnoreFailedCommit, OnlyIP, SecondBuffer}
