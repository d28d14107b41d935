package cluster

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/hamgr/hamgr/detector"
)

// DefaultPort is where Raft listens, TCP.
const DefaultPort = 7401

// Config is what one node needs to take part.
type Config struct {
	Node     string            // this node's name, and its Raft server id
	ID       string            // this installation's id (config.NodeID)
	Addr     string            // this node's management address, without port
	Second   string            // its address on the second path, see detector.Config; may be empty
	Started  uint64            // the incarnation in this process's heartbeats; 0: not told
	Version  string            // of this program
	Noted    uint64            // the highest generation that this host has noted of a guest
	Managers map[string]string // name to address, without port, that a new cluster begins with; the same on every node
	Others   Others            // how to ask the others; needed if there are any
	Port     int               // TCP, the same on every node; DefaultPort if 0
	Dir      string            // of the log and the snapshots; made if missing
	Log      io.Writer         // for warnings and worse; os.Stderr if nil

	// Timeouts of Raft. Longer ones survive a slower disk or network, shorter ones
	// find a new leader sooner.
	Heartbeat   time.Duration // without a leader until a follower stands; 200 ms if 0
	Election    time.Duration // of one election; Heartbeat if 0
	LeaderLease time.Duration // without a majority until a leader steps down; 3/4 Heartbeat if 0
	Commit      time.Duration // until a quiet leader sends its commit index; 20 ms if 0
	RPC         time.Duration // to dial a node, or for its answer; 1 s if 0

	// LeaseWait is package lease's W, the same as the detector's timeout; 250 ms if 0.
	LeaseWait time.Duration

	SnapshotEvery    uint64        // entries between two snapshots; 1024 if 0
	SnapshotInterval time.Duration // between two looks whether it is time; 30 s if 0
}

func (c *Config) setDefaults() {
	set(&c.Port, DefaultPort)
	set(&c.Heartbeat, 200*time.Millisecond)
	set(&c.Election, c.Heartbeat)
	set(&c.LeaderLease, c.Heartbeat*3/4)
	set(&c.Commit, 20*time.Millisecond)
	set(&c.RPC, time.Second)
	set(&c.LeaseWait, detector.DefaultTimeout)
	set(&c.SnapshotEvery, 1024)
	set(&c.SnapshotInterval, 30*time.Second)
	if c.Log == nil {
		c.Log = os.Stderr
	}
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (c Config) validate() error {
	switch addr, manager := c.Managers[c.Node]; {
	case c.Node == "" || c.Addr == "" || c.ID == "" || c.Dir == "":
		return fmt.Errorf("cluster: node %q, address %q, id %q, directory %q: none may be empty", c.Node, c.Addr, c.ID, c.Dir)
	case len(c.Managers) == 0:
		return fmt.Errorf("cluster: no managers; name at least one")
	case manager && addr != c.Addr:
		return fmt.Errorf("cluster: node %s has the address %s, the list of managers says %s", c.Node, c.Addr, addr)
	case c.Others == nil && !(manager && len(c.Managers) == 1):
		return fmt.Errorf("cluster: node %s has no way to ask the others", c.Node)
	}
	return nil
}

func (c Config) isManager() bool { return c.Managers[c.Node] != "" }

func (c Config) raftAddress(host string) raft.ServerAddress {
	return raft.ServerAddress(net.JoinHostPort(host, strconv.Itoa(c.Port)))
}

// voters is the configuration that every manager starts the cluster with. They all
// write the same first entry, so it does not matter who comes first.
func (c Config) voters() raft.Configuration {
	var out raft.Configuration
	for name, host := range c.Managers {
		out.Servers = append(out.Servers, raft.Server{ID: raft.ServerID(name), Address: c.raftAddress(host)})
	}
	return out
}

func (c Config) raft(log hclog.Logger) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.Node)
	r.Logger = log
	r.HeartbeatTimeout, r.ElectionTimeout = c.Heartbeat, c.Election
	r.LeaderLeaseTimeout, r.CommitTimeout = c.LeaderLease, c.Commit
	r.SnapshotThreshold, r.TrailingLogs = c.SnapshotEvery, c.SnapshotEvery
	r.SnapshotInterval = c.SnapshotInterval
	r.NoLegacyTelemetry = true
	return r
}
