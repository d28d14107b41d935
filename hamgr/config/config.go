package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// DefaultPath is where hamgr serve looks for its configuration.
const DefaultPath = "/etc/hamgr/hamgr.yaml"

// Config is all that one node can be told. Durations are written as in 25ms or 8s.
type Config struct {
	Node     string            `yaml:"node"`        // this node's name; the host name if empty
	Addr     string            `yaml:"addr"`        // this node's management address, an IP without port
	Second   string            `yaml:"second_addr"` // its address on a network of other switches (the guests', storage's), for heartbeats; may be empty
	Managers map[string]string `yaml:"managers"`    // name to address of the 1, 3 or 5 managers that a new cluster begins with, and where a node finds it; the same on every node
	Cluster  string            `yaml:"cluster"`     // keeps apart clusters that share a network

	DataDir    string `yaml:"data_dir"`    // the log of the cluster; on a disk that keeps its word at a sync
	Socket     string `yaml:"socket"`      // the API for this host's root, a unix socket
	LibvirtURI string `yaml:"libvirt_uri"` // where this host's guests are
	MemoryDir  string `yaml:"memory_dir"`  // where replicas keep RAM: libvirt's memory_backing_dir, a tmpfs
	RunDir     string `yaml:"run_dir"`     // FIFOs and other state that ends with a reboot, a tmpfs

	Trace        string `yaml:"trace"`         // a file for the moments of each epoch (package trace); none if empty
	InspectorURL string `yaml:"inspector_url"` // where alarms go; nowhere if empty

	Epoch     time.Duration `yaml:"epoch"`          // between two checkpoints, for protections that ask for nothing else
	SyncMiB   uint64        `yaml:"sync_mib_per_s"` // what the first copy of a guest's memory to its backup may take of the network
	Heartbeat Heartbeat     `yaml:"heartbeat"`
	Raft      Raft          `yaml:"raft"`
	Ports     Ports         `yaml:"ports"`
}

// Heartbeat is how nodes watch each other.
type Heartbeat struct {
	Interval time.Duration `yaml:"interval"` // between two
	Timeout  time.Duration `yaml:"timeout"`  // of silence until a host is suspected
	Detour   time.Duration `yaml:"detour"`   // the same, of a host that is heard at its second_addr
	Grace    time.Duration `yaml:"grace"`    // for hamgr to be restarted on a host that lives
}

// Raft is how the managers agree.
type Raft struct {
	Heartbeat   time.Duration `yaml:"heartbeat"`    // without a leader until another stands
	Election    time.Duration `yaml:"election"`     // of one election
	LeaderLease time.Duration `yaml:"leader_lease"` // without a majority until the leader steps down
	Commit      time.Duration `yaml:"commit"`       // until a quiet leader sends its commit index
}

// Ports are the same on every node.
type Ports struct {
	API        int `yaml:"api"`        // TCP
	Raft       int `yaml:"raft"`       // TCP
	Heartbeat  int `yaml:"heartbeat"`  // UDP
	Checkpoint int `yaml:"checkpoint"` // TCP
}

// Default is the configuration of a node that was told nothing.
func Default() Config {
	host, _ := os.Hostname() // empty is caught by Validate
	host, _, _ = strings.Cut(host, ".")
	return Config{
		Node: host, DataDir: "/var/lib/hamgr", Socket: "/run/hamgr/hamgr.sock", RunDir: "/run/hamgr",
		LibvirtURI: "qemu:///system", MemoryDir: "/dev/shm/hamgr", Epoch: 25 * time.Millisecond, Cluster: "hamgr",
		SyncMiB:   400, // a third of 10 Gbit/s: the checkpoints of other guests go the same way
		Heartbeat: Heartbeat{Interval: 10 * time.Millisecond, Timeout: 250 * time.Millisecond, Detour: time.Second, Grace: 8 * time.Second},
		// A leader that dies is replaced within twice the first, of which one try may fail: then
		// there is one when the heartbeats' timeout has passed, which decides nothing by itself.
		Raft: Raft{Heartbeat: 100 * time.Millisecond, Election: 100 * time.Millisecond,
			LeaderLease: 75 * time.Millisecond, Commit: 20 * time.Millisecond},
		Ports: Ports{API: 7400, Raft: 7401, Heartbeat: 7402, Checkpoint: 7403},
	}
}

// Load is Default overlaid with the file. At DefaultPath the file may be missing: flags
// can say it all. A key that does not exist is an error, with its line. Load does not
// validate: flags come after it.
func Load(path string) (Config, error) {
	c := Default()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == DefaultPath {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) { // EOF: an empty file
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// ParseManagers reads the form of the --managers flag, h1=10.0.0.1,h2=10.0.0.2.
func ParseManagers(s string) (map[string]string, error) {
	out := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" || addr == "" {
			return nil, fmt.Errorf("managers: %q is not name=address", part)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("managers: %s is there twice", name)
		}
		out[name] = addr
	}
	return out, nil
}

// APIAddr is the host:port of the API on the node at address addr.
func (c Config) APIAddr(addr string) string { return join(addr, c.Ports.API) }

// HeartbeatAddr is the host:port for heartbeats on the node at address addr.
func (c Config) HeartbeatAddr(addr string) string { return join(addr, c.Ports.Heartbeat) }

// CheckpointAddr is the host:port for checkpoints on the node at address addr.
func (c Config) CheckpointAddr(addr string) string { return join(addr, c.Ports.Checkpoint) }

func join(addr string, port int) string { return net.JoinHostPort(addr, strconv.Itoa(port)) }
