package core

import "time"

// Phase is where a protection stands in its life.
//
//	         Assign               Synced
//	solo ------------> syncing -----------> protected
//	 ^  <------------/ GoSolo               /     |
//	 |  <---------------- GoSolo ----------/      | FailOver
//	 |              Restored                      v
//	 +------------------------------------- recovering
//
// MarkLost leads from solo, syncing and recovering to lost; Restored leads from there
// to solo again, should the guest turn out to have lived. Restart leads from lost to
// recovering where the policy is to start the guest anew.
type Phase string

// The phases of a protection.
const (
	Solo       Phase = "solo"       // the primary runs without a backup, output open
	Syncing    Phase = "syncing"    // a backup is being filled, output open until the first commit
	Protected  Phase = "protected"  // the backup holds a committed checkpoint of this generation
	Recovering Phase = "recovering" // failover decided, the new primary is restoring
	Lost       Phase = "lost"       // nothing is left to restore from
)

// Mode says what happens to the output between checkpoints (NFV-REL 002, clause 6.3, Table 1).
type Mode string

// The modes of protection.
const (
	Buffer     Mode = "buffer"
	Checkpoint Mode = "checkpoint"
)

// LossPolicy says what is done for a guest when nothing is left to restore it from.
type LossPolicy string

// The policies. Restart needs a definition in State.Definitions, and whatever disks the guest has to be
// within reach of the other hosts and to refuse a host that was cut off: hamgr fences the network only.
const (
	OnLossStop    LossPolicy = "stop"    // it stays lost, for an operator to see to
	OnLossRestart LossPolicy = "restart" // it is started anew, without its memory
)

// Protection is the standing order "keep this domain alive".
type Protection struct {
	Domain     string        `json:"domain"`
	UUID       string        `json:"uuid"`
	Primary    string        `json:"primary"`
	Backup     string        `json:"backup,omitempty"`
	Boot       string        `json:"backup_boot,omitempty"`   // Node.Boot of the backup when it was chosen: a replica does not outlive its hamgr
	Pinned     string        `json:"pinned_backup,omitempty"` // --backup: the only backup allowed
	Mode       Mode          `json:"mode"`
	Input      bool          `json:"input"`                 // what goes to the guest is copied to the backup
	Wanted     Mode          `json:"wanted_mode,omitempty"` // asked for, not in force yet
	Moving     bool          `json:"moving,omitempty"`      // the primary is to hand the guest over to the backup
	StayedAt   time.Time     `json:"stayed_at,omitzero"`    // when it last could not
	Epoch      time.Duration `json:"epoch_ns"`
	Memory     uint64        `json:"memory_bytes"`
	Generation uint64        `json:"generation"` // fencing token: raised by every change of who may run or emit
	Phase      Phase         `json:"phase"`
	Since      time.Time     `json:"since"` // of the phase
	Reason     string        `json:"reason,omitempty"`
	Degraded   string        `json:"degraded,omitempty"` // protected, but less well than ordered: why
	OnLoss     LossPolicy    `json:"on_loss,omitempty"`  // empty: stop
	Cold       bool          `json:"cold,omitempty"`     // recovering: it is started anew, not restored
	Fenced     bool          `json:"fenced,omitempty"`   // it was protected before: its output is held, or behind a lease, since
	Unrun      bool          `json:"unrun,omitempty"`    // it was to be started on its primary and has not run there yet: a copy there is of a former time
	Silent     bool          `json:"silent,omitempty"`   // lost: its primary has said that no copy runs there
	Starts     int           `json:"starts,omitempty"`   // anew, since it was last protected

	// AntiAffinity is the group of guests of which no two are to be on one host. Protection
	// goes before: a host beside another of the group is better than none.
	AntiAffinity string    `json:"anti_affinity,omitempty"`
	Together     string    `json:"together,omitempty"`      // with which of the group it is, or would be after one failure, and where
	TurnedDownAt time.Time `json:"turned_down_at,omitzero"` // when it was last protected after a better host had refused or failed

	Probe       Probe  `json:"probe,omitzero"`
	ProbeFailed string `json:"probe_failed,omitempty"` // why its service is taken to have failed

	Refused   map[string]string `json:"refused,omitempty"` // nodes that could not take it, and why
	RefusedAt time.Time         `json:"refused_at,omitzero"`
}

// Probe is how a guest's service is asked whether it answers. Without a URL it is not.
type Probe struct {
	URL      string        `json:"url"`
	Interval time.Duration `json:"interval_ns"`
	Timeout  time.Duration `json:"timeout_ns"`
	Failures int           `json:"failures"` // in a row, until people are told
}

// Node is one host running hamgr serve.
type Node struct {
	Name    string `json:"name"`
	ID      string `json:"id"`                    // made once per installation: two hosts with one name are told apart by it
	Addr    string `json:"addr"`                  // management address, without port
	Second  string `json:"second_addr,omitempty"` // where it is heard if not there
	Version string `json:"version,omitempty"`     // of its hamgr
	Drained bool   `json:"drained,omitempty"`     // the operator wants it empty
	Boot    string `json:"boot,omitempty"`        // made anew at each start: who sees his own agreed on has caught up
	Started uint64 `json:"started,omitempty"`     // the incarnation in its heartbeats; 0: not known
}

// Event is one decision with its cause, kept in the state and sent to the inspector.
type Event struct {
	Index      uint64    `json:"index"`
	Time       time.Time `json:"time"`
	Kind       Kind      `json:"kind"`
	Domain     string    `json:"domain,omitempty"`
	Node       string    `json:"node,omitempty"` // the node the event is about (the failed one in a failover)
	Target     string    `json:"target,omitempty"`
	Generation uint64    `json:"generation,omitempty"`
	Cause      string    `json:"cause,omitempty"`
}

// Kind names a command, and the event that it leaves behind.
type Kind string

// The commands. Those on a protection carry the generation they were decided on: a
// command whose generation is not the current one changes nothing (compare-and-set, I3).
const (
	RegisterNode Kind = "register-node"
	Protect      Kind = "protect"
	Unprotect    Kind = "unprotect"
	Assign       Kind = "assign-backup" // solo -> syncing, generation+1
	Synced       Kind = "protected"     // syncing -> protected, same generation
	GoSolo       Kind = "solo"          // syncing or protected -> solo, generation+1
	FailOver     Kind = "failover"      // protected -> recovering, primary = backup, generation+1
	Restored     Kind = "restored"      // recovering or lost -> solo, same generation
	MarkLost     Kind = "lost"          // solo, syncing or recovering, or protected and the replica gone -> lost, generation+1

	Restart Kind = "restart" // lost -> recovering, primary = backup of the command, generation+1

	// A planned failover takes two: Move asks, and the primary answers with FailOver once
	// it has stopped the guest and has the last checkpoint committed, or with Stay.
	Move Kind = "move"
	Stay Kind = "stay"

	Reinstate Kind = "reinstate" // the orders of a saved state, in a cluster that has none

	Trouble Kind = "trouble" // of the guest's own, for people: nothing is done

	// For people as well: what the probe of its service finds, and where others of its
	// anti-affinity group are.
	ProbeFailed Kind = "probe-failed"
	ProbePassed Kind = "probe-passed"

	Together Kind = "together"
	Apart    Kind = "apart"

	// While the guest is protected, its primary says what it finds wanting, and when nothing.
	Degraded  Kind = "degraded"
	AsOrdered Kind = "as-ordered"

	Drain   Kind = "drain"   // the node is to be emptied, and gets nothing new
	Undrain Kind = "undrain" // it may be used again

	// For people: who the managers are is agreed on by Raft itself (Manage).
	ManagerAdded   Kind = "manager-added"
	ManagerRemoved Kind = "manager-removed"

	// A change of mode takes two: what is in force says whether the output fences, and is
	// to claim no more than what the primary does.
	WantMode Kind = "mode-wanted" // the operator's
	SetMode  Kind = "mode"        // the primary's: it does as Wanted says now
)

// Command is what goes through Raft.
type Command struct {
	Kind       Kind        `json:"kind"`
	Time       time.Time   `json:"time"` // proposer's clock; for people, never for decisions
	Domain     string      `json:"domain,omitempty"`
	Generation uint64      `json:"generation,omitempty"` // expected; 0 with Unprotect: any; RegisterNode: the highest noted on that host
	Backup     string      `json:"backup,omitempty"`     // Assign; Restart: where; GoSolo: set when the backup refused or failed
	Cause      string      `json:"cause,omitempty"`
	Node       *Node       `json:"node,omitempty"`       // RegisterNode; Drain, Undrain, ManagerAdded, ManagerRemoved: its name
	Protection *Protection `json:"protection,omitempty"` // Protect
	Definition string      `json:"definition,omitempty"` // Protect: for State.Definitions
	Mode       Mode        `json:"mode,omitempty"`       // WantMode, SetMode

	Reinstate *Reinstatement `json:"reinstate,omitempty"` // Reinstate, on the State.Retired in Generation
	// Silenced, of FailOver, Restart and MarkLost: the primary cannot emit, its output held or
	// not, as its lease is over or its QEMU has ended.
	Silenced bool `json:"silenced,omitempty"`
	Planned  bool `json:"planned,omitempty"` // of FailOver: the answer to Move
	Stopped  bool `json:"stopped,omitempty"` // of MarkLost: its primary says that no copy runs there
}

// State is all the cluster has agreed on.
type State struct {
	Index       uint64                `json:"index"`
	Nodes       map[string]Node       `json:"nodes"`
	Protections map[string]Protection `json:"protections"`
	Events      []Event               `json:"events"` // the newest EventsKept

	// Definitions are libvirt's XML, with secrets, of the guests that are to be started anew
	// when they are lost. They stay out of what the API shows.
	Definitions map[string]string `json:"definitions,omitempty"`

	// Ended is what is remembered of protections that are over, by domain, the newest EndedKept.
	Ended map[string]Ended `json:"ended,omitempty"`

	// Retired is the highest generation of any protection that has ended, and at least what
	// hosts had noted when they registered. A new one starts above it, so that a domain's
	// numbers never go back, whatever its name.
	Retired uint64 `json:"retired_generation,omitempty"`

	// Moved is the index of the newest change of any guest's owner. A host that has not
	// got that far gets no lease (package lease, R2).
	Moved uint64 `json:"moved,omitempty"`

	// Managers are who votes, by name, with their management addresses; Managed is the index
	// of the newest change of who they are. Raft's own configuration, at this index.
	Managers map[string]string `json:"managers,omitempty"`
	Managed  uint64            `json:"managed,omitempty"`

	// Reinstated is the index of the newest Reinstate: the hosts look then for what is left
	// of the time before it.
	Reinstated uint64 `json:"reinstated,omitempty"`
}

// Ended says who had a guest when its protection ended. A node that had it before, and has
// missed a failover and the end, finds out that it is not the one to let its copy speak.
type Ended struct {
	UUID       string `json:"uuid"`
	Primary    string `json:"primary"`
	Generation uint64 `json:"generation"`
	Index      uint64 `json:"index"` // of the end
}

// MaxGeneration is more than can be counted to, and leaves room to count on.
const MaxGeneration = 1 << 60

// EventsKept bounds State.Events, EndedKept State.Ended.
const (
	EventsKept = 256
	EndedKept  = 1024
)
