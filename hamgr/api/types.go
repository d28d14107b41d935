package api

import (
	"context"
	"time"

	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/core"
)

// Port is where nodes serve the API on the management network, TCP, if not told otherwise.
const Port = 7400

// ProtectRequest asks for a protection.
type ProtectRequest struct {
	Domain  string          `json:"domain"`
	Backup  string          `json:"backup,omitempty"`   // the only node allowed; empty: chosen
	EpochMS int             `json:"epoch_ms,omitempty"` // between two checkpoints; 0: the node's default
	Mode    core.Mode       `json:"mode,omitempty"`     // empty: buffer
	Input   *bool           `json:"input,omitempty"`    // copy the guest's input to the backup; none: yes
	OnLoss  core.LossPolicy `json:"on_loss,omitempty"`  // empty: stop

	Probe *ProbeRequest `json:"probe,omitempty"` // none: the service is not asked

	AntiAffinity string `json:"anti_affinity,omitempty"` // group of guests of which no two are to be on one host; empty: none
}

// ProbeRequest asks for a probe of the guest's service; what is 0 has a default.
type ProbeRequest struct {
	URL        string `json:"url"` // tcp://host:port or http://host:port/path
	IntervalMS int    `json:"interval_ms,omitempty"`
	TimeoutMS  int    `json:"timeout_ms,omitempty"`
	Failures   int    `json:"failures,omitempty"` // in a row, until it counts
}

// ChangeRequest changes a protection while it is in force.
type ChangeRequest struct {
	Mode core.Mode `json:"mode"`
}

// FailoverRequest moves a domain to its backup.
type FailoverRequest struct {
	Now bool `json:"now,omitempty"` // from the last checkpoint, whatever its primary does
}

// NodeStatus is a node and what is known of its health.
type NodeStatus struct {
	core.Node
	Manager     bool   `json:"manager"`
	State       string `json:"state"` // alive, silent, deaf, second-path, process-down, unknown
	LastHeardMS *int64 `json:"last_heard_ms,omitempty"`
	Leader      bool   `json:"leader,omitempty"`
	Suspicions  uint64 `json:"suspicions"` // how often the answering node has begun to suspect it
}

// ProtectionStatus is a protection and its primary's measurements, when it answers.
type ProtectionStatus struct {
	core.Protection
	Stats *Stats `json:"stats,omitempty"`
}

// Status is the cluster as one node sees it.
type Status struct {
	Node        string             `json:"node"`   // who says so
	Leader      string             `json:"leader"` // empty while none is known
	Index       uint64             `json:"index"`  // of the newest decision it knows
	Nodes       []NodeStatus       `json:"nodes"`
	Protections []ProtectionStatus `json:"protections"`
}

// hiccup is for how long a node may have been silent and is still asked: the detector's
// patience is short, and an answer says more than a heartbeat.
const hiccup = 2 * time.Second

// reachable says that it is worth asking a node.
func (l NodeLiveness) reachable() bool {
	return l.State == alive || !l.LastHeard.IsZero() && time.Since(l.LastHeard) < hiccup
}

// NodeLiveness is what the detector knows of a node.
type NodeLiveness struct {
	State     string    // alive, silent, deaf, second-path, process-down
	LastHeard time.Time // its last heartbeat; zero if not known

	Suspicions uint64 // how often this node has begun to suspect it
}

// The states that the server knows by name.
const (
	alive  = "alive"
	silent = "silent"
)

// Cluster is what the server needs of the managers.
type Cluster interface {
	// State is the newest state this node knows; index 0 until it has caught up.
	State() core.State
	// Watch pulses after changes of State; stop ends the subscription.
	Watch() (changed <-chan struct{}, stop func())
	// Propose returns when the command has taken effect here, on the leader. Errors: those
	// of core.Apply; cluster.ErrNotLeader: it will not; any other leaves open whether it will.
	Propose(ctx context.Context, c core.Command) error
	// Settled is the state with all that was agreed on before the call, on the leader.
	// Errors: cluster.ErrNotLeader; any other: the managers do not answer.
	Settled(ctx context.Context) (core.State, error)
	// Leader names the leader and its management address; both empty while none is known.
	Leader() (name, addr string)
	// IsLeader says whether this node leads, as far as it knows.
	IsLeader() bool

	// AddManager gives a node a vote, RemoveManager takes it away, on the leader; HandOver has
	// another manager lead. Errors: those of Propose, cluster.ErrChanging.
	AddManager(ctx context.Context, node, cause string) error
	RemoveManager(ctx context.Context, node, cause string) error
	HandOver(ctx context.Context, to string) error
	// Blank is for a node that starts without its log, on the leader: it has no vote after.
	Blank(ctx context.Context, n core.Node) error
	// Standing is how far this node has got.
	Standing() cluster.Standing
}
