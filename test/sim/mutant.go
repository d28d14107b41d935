package sim

// Mutant is a mistake built into the model on purpose, to see that the checkers find it.
type Mutant string

// The mutants. The first group are mistakes of forerunners, or of a cluster without its
// agreement; the second leave out a rule of package lease.
const (
	NoMutant            Mutant = ""
	LeaseUnfenced       Mutant = "lease-without-fencing" // the process, not the kernel, closes the gate
	FailoverWithoutRaft Mutant = "failover-without-raft" // a backup whose primary falls silent goes ahead
	SoloWithoutRaft     Mutant = "solo-without-raft"     // a primary without its backup opens its output
	ReleaseOnError      Mutant = "release-on-error"      // a session that fails lets go what it held
	ReleaseOnSend       Mutant = "release-on-send"       // a checkpoint sent counts as committed
	AckBeforeApply      Mutant = "acknowledge-before-apply"
	ApplyUnstaged       Mutant = "apply-unstaged" // pages go into the replica as they come
	AnewUnleased        Mutant = "anew-unleased"  // the open output of a guest that is started anew when lost has no lease
	MoveRunning         Mutant = "move-running"   // a guest that is to move runs on after its last checkpoint
	StaleCommits        Mutant = "stale-commits"  // a replica that was taken over commits on
	HungSpared          Mutant = "hung-spared"    // a QEMU that hangs counts as ended, and is not ended

	GrantWithoutMajority Mutant = "grant-without-majority"
	GrantsDuringTakeover Mutant = "grants-during-takeover"
	TakeoverWhenElected  Mutant = "takeover-when-elected"
	TakeoverWithoutWait  Mutant = "takeover-without-wait"

	FormerManagers         Mutant = "former-managers"           // a lease is by the word of those who were managers first
	GrantsOfFormerManagers Mutant = "grants-of-former-managers" // a grant does not tell of a change of the managers
)

// Mutants are all of them.
var Mutants = []Mutant{LeaseUnfenced, FailoverWithoutRaft, SoloWithoutRaft, ReleaseOnError, ReleaseOnSend, AckBeforeApply,
	ApplyUnstaged, StaleCommits, HungSpared, AnewUnleased, MoveRunning, GrantWithoutMajority, GrantsDuringTakeover, TakeoverWhenElected, TakeoverWithoutWait, FormerManagers, GrantsOfFormerManagers}
