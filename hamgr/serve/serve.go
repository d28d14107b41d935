// Package serve wires one node together: libvirt, the managers, the detector, the agent,
// the API and the alarms. Run owns every goroutine it starts and waits for each.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hamgr/hamgr/detector"
	"github.com/hamgr/hamgr/hamgr/agent"
	"github.com/hamgr/hamgr/hamgr/alarm"
	"github.com/hamgr/hamgr/hamgr/api"
	"github.com/hamgr/hamgr/hamgr/cluster"
	"github.com/hamgr/hamgr/hamgr/config"
	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/domain"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// libvirtWait bounds the wait for libvirt at the start.
const libvirtWait = 2 * time.Minute

// Run serves until ctx ends. version is of this program, for people.
func Run(ctx context.Context, cfg config.Config, version string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", cfg.Node)
	id, err := config.NodeID(cfg.DataDir)
	if err != nil {
		return err
	}
	moments, err := trace.Open(cfg.Trace, cfg.Node, log)
	if err != nil {
		return err
	}
	defer moments.Close()
	started := uint64(time.Now().UnixNano())
	c, err := cluster.Open(cluster.Config{
		Node: cfg.Node, Started: started, ID: id, Addr: cfg.Addr, Second: cfg.Second, Version: version, Noted: agent.Noted(cfg.RunDir, log), Managers: cfg.Managers, Port: cfg.Ports.Raft, Dir: raftDir(cfg.DataDir),
		Heartbeat: cfg.Raft.Heartbeat, Election: cfg.Raft.Election, LeaderLease: cfg.Raft.LeaderLease, Commit: cfg.Raft.Commit,
		LeaseWait: cfg.Heartbeat.Timeout, Others: others(cfg),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	n := &node{cfg: cfg, id: id, started: started, cluster: c, log: log, trace: moments}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	part := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	if err := n.watchPeers(part); err != nil {
		return err
	}
	if err := n.work(ctx, part); err != nil {
		return err
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// Left is the state in the data directory of a node that is stopped. Errors: those of
// cluster.ReadState.
func Left(dataDir string) (core.State, error) { return cluster.ReadState(raftDir(dataDir)) }

func raftDir(dataDir string) string { return filepath.Join(dataDir, "raft") }

// node is what the parts of one node share.
type node struct {
	cfg      config.Config
	id       string
	started  uint64 // tells this process from earlier ones
	cluster  *cluster.Cluster
	detector *detector.Detector
	log      *slog.Logger
	trace    *trace.Log
}

type parts func(name string, f func(context.Context) error)

// watchPeers starts what the cluster needs to live, before libvirt is asked for anything.
func (n *node) watchPeers(part parts) (err error) {
	n.detector, err = detector.New(detector.Config{
		Self: n.cfg.Node, Listen: hostPort(n.cfg.Addr, n.cfg.Ports.Heartbeat), Second: n.heartbeats(n.cfg.Second), Peers: n.peers(), Cluster: n.cfg.Cluster, Incarnation: n.started,
		Interval: n.cfg.Heartbeat.Interval, Timeout: n.cfg.Heartbeat.Timeout, Detour: n.cfg.Heartbeat.Detour, ProcessGrace: n.cfg.Heartbeat.Grace,
		Voter: n.cluster.Voter,
	})
	if err != nil {
		return err
	}
	alarms := alarm.New(n.cfg.InspectorURL, n.log)
	n.cluster.OnEvent(alarms.Send)
	part("detector", n.detector.Run)
	part("alarms", func(ctx context.Context) error { alarms.Run(ctx); return nil })
	part("leader", func(ctx context.Context) error { n.cluster.RunLeader(ctx, n.detector, nil); return nil })
	part("peers", n.followNodes)
	return nil
}

// followNodes gives the detector the nodes that the cluster knows.
func (n *node) followNodes(ctx context.Context) error {
	changed, stop := n.cluster.Watch()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		n.detector.SetPeers(n.peers())
	}
}

// peers are all nodes that the cluster knows; until this one has caught up, those that it has
// heard of.
func (n *node) peers() map[string]detector.Peer {
	peers := map[string]detector.Peer{}
	s := n.cluster.State()
	managers := s.Managers
	if s.Index == 0 {
		managers = n.cluster.Known()
	}
	for name, addr := range managers {
		peers[name] = detector.Peer{Addr: n.heartbeats(addr)}
	}
	for name, other := range s.Nodes {
		peers[name] = detector.Peer{Addr: n.heartbeats(other.Addr), Second: n.heartbeats(other.Second)}
	}
	return peers
}

// heartbeats is where a node at addr listens for them; nowhere at no address.
func (n *node) heartbeats(addr string) string {
	if addr == "" {
		return ""
	}
	return hostPort(addr, n.cfg.Ports.Heartbeat)
}

// work starts the agent and the API once this node is one of the cluster.
func (n *node) work(ctx context.Context, part parts) error {
	a := agent.New(agent.Config{
		Node: n.cfg.Node, Listen: hostPort(n.cfg.Addr, n.cfg.Ports.Checkpoint), MemoryDir: n.cfg.MemoryDir, RunDir: n.cfg.RunDir,
		Peer: func(name string) string { return hostPort(n.cluster.State().Nodes[name].Addr, n.cfg.Ports.Checkpoint) }, Log: n.log, Trace: n.trace,
		Lease: n.lease, SyncBandwidth: n.cfg.SyncMiB << 20, Patience: n.cfg.Heartbeat.Timeout,
	}, (*shared)(n))
	srv := &api.Server{Node: n.cfg.Node, Name: n.cfg.Cluster, Port: n.cfg.Ports.API, Epoch: n.cfg.Epoch, Cluster: n.cluster, Agent: a, Liveness: n.liveness}
	part("api", func(ctx context.Context) error { return n.serveAPI(ctx, srv.Handler()) })
	part("agent", func(ctx context.Context) error {
		wait, cancel := context.WithTimeout(ctx, libvirtWait)
		defer cancel()
		host, err := domain.Open(wait, n.cfg.LibvirtURI)
		if err != nil {
			return err
		}
		agent.Rescue(ctx, host, n.log)
		if err := n.cluster.Register(ctx, n.forward); err != nil {
			return err
		}
		n.log.Info("ready")
		return a.Run(ctx, host)
	})
	return nil
}

// lease is until when the managers let this host's guests emit what no buffer holds.
func (n *node) lease(known core.State) time.Time {
	return n.detector.Lease(known.Voters(), known.Index)
}

func (n *node) liveness() map[string]api.NodeLiveness {
	out := map[string]api.NodeLiveness{}
	for name, s := range n.detector.Status() {
		out[name] = api.NodeLiveness{State: string(s.State), LastHeard: s.LastHeard, Suspicions: s.Suspicions}
	}
	return out
}

// forward hands a command to the leader's node; while this node knows of none, to any
// that answers, which sends it on.
func (n *node) forward(ctx context.Context, c core.Command) error {
	if _, addr := n.cluster.Leader(); addr != "" {
		return n.proposeAt(ctx, addr, c)
	}
	err := error(cluster.ErrNotLeader)
	for _, addr := range n.cluster.Known() {
		if err = n.proposeAt(ctx, addr, c); err == nil || core.Refused(err) {
			return err
		}
	}
	return err
}

func (n *node) proposeAt(ctx context.Context, addr string, c core.Command) error {
	return api.NewClient("http://"+hostPort(addr, n.cfg.Ports.API)).Propose(ctx, c)
}

// shared is the cluster as the agent sees it: commands find the leader.
type shared node

func (s *shared) State() core.State                { return s.cluster.State() }
func (s *shared) Watch() (<-chan struct{}, func()) { return s.cluster.Watch() }
func (s *shared) Propose(ctx context.Context, c core.Command) error {
	if s.cluster.IsLeader() {
		return s.cluster.Propose(ctx, c)
	}
	return (*node)(s).forward(ctx, c)
}

func (n *node) serveAPI(ctx context.Context, h http.Handler) error {
	if err := os.MkdirAll(filepath.Dir(n.cfg.Socket), 0o755); err != nil {
		return err
	}
	os.Remove(n.cfg.Socket)
	unix, err := net.Listen("unix", n.cfg.Socket)
	if err != nil {
		return err
	}
	os.Chmod(n.cfg.Socket, 0o600)
	tcp, err := net.Listen("tcp", hostPort(n.cfg.Addr, n.cfg.Ports.API))
	if err != nil {
		unix.Close()
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 2)
	go func() { ended <- srv.Serve(unix) }()
	go func() { ended <- srv.Serve(tcp) }()
	select {
	case <-ctx.Done():
		return srv.Close()
	case err := <-ended:
		srv.Close()
		return err
	}
}

func hostPort(addr string, port int) string { return net.JoinHostPort(addr, fmt.Sprint(port)) }
