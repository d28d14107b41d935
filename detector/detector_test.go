package detector

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// node is one detector on the loopback, run until stopped.
type node struct {
	*Detector
	name, addr string
	stop       func()
}

func start(t *testing.T, name, listen string) *node {
	t.Helper()
	d, err := New(Config{Self: name, Listen: listen, Second: "127.0.0.1:0", Cluster: "test", ProcessGrace: 400 * time.Millisecond, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	n := &node{Detector: d, name: name, addr: d.listen.LocalAddr().String()}
	n.stop = func() {
		if cancel(); done == nil {
			return
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		done = nil
	}
	t.Cleanup(n.stop)
	return n
}

// until waits for a change that makes ok true.
func (n *node) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		changed := n.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%s never saw %s: %+v", n.name, what, n.Status())
		}
	}
}

// TestLoopback sees over real sockets: everybody alive, a process gone (the kernel says
// so), the grace over with a majority, and the process back.
func TestLoopback(t *testing.T) {
	names := []string{"a", "b", "c"}
	nodes := map[string]*node{}
	peers := map[string]Peer{}
	for _, n := range names {
		nodes[n] = start(t, n, "127.0.0.1:0")
		peers[n] = Peer{Addr: nodes[n].addr}
	}
	for _, n := range nodes {
		n.SetPeers(peers)
	}
	a, c := nodes["a"], nodes["c"]
	a.until(t, "b and c", func() bool { s := a.Status(); return s["b"].Started != 0 && s["c"].Started != 0 })
	if len(a.Status()) != 2 {
		t.Fatalf("a has itself among its peers: %v", a.Status())
	}
	first := a.Status()["c"].Started

	c.stop()
	a.until(t, "c's process gone", func() bool { return a.Status()["c"].State == ProcessDown })
	if dead, cause := a.Suspected("c", names); dead {
		t.Fatalf("given up within its grace: %s", cause)
	}
	a.until(t, "a majority against c", func() bool { dead, _ := a.Suspected("c", names); return dead })
	if _, cause := a.Suspected("c", names); !strings.Contains(cause, "its host answers") || !strings.Contains(cause, "2 of 3") {
		t.Fatalf("cause: %s", cause)
	}
	if a.Silence("c") != 0 {
		t.Fatal("its kernel answers, yet the host counts as silent")
	}

	start(t, "c", c.addr).SetPeers(peers)
	a.until(t, "c back", func() bool { s := a.Status()["c"]; return s.State == Alive && s.Started > first })
}

// A host that is gone answers nothing at all. A socket that nobody reads stands for it.
func TestSilentHost(t *testing.T) {
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	a, b := start(t, "a", "127.0.0.1:0"), start(t, "b", "127.0.0.1:0")
	peers := map[string]Peer{"a": {Addr: a.addr}, "b": {Addr: b.addr}, "h": {Addr: mute.LocalAddr().String()}}
	a.SetPeers(peers)
	b.SetPeers(peers)
	voters := []string{"a", "b", "h"}
	a.until(t, "h given up", func() bool { dead, _ := a.Suspected("h", voters); return dead })
	if s := a.Silence("h"); s < 200*time.Millisecond || s > 10*time.Second {
		t.Fatalf("silent for %v", s)
	}
	if a.SelfIsolated() {
		t.Fatal("a hears b, yet is isolated")
	}
	b.stop()
}

// TestSecondPathShell cuts the first path only: what b sends there goes to nobody.
func TestSecondPathShell(t *testing.T) {
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	a, b := start(t, "a", "127.0.0.1:0"), start(t, "b", "127.0.0.1:0")
	second := func(n *node) string { return n.second.LocalAddr().String() }
	a.SetPeers(map[string]Peer{"b": {Addr: b.addr, Second: second(b)}})
	b.SetPeers(map[string]Peer{"a": {Addr: mute.LocalAddr().String(), Second: second(a)}})
	a.until(t, "b on its second path", func() bool { return a.Status()["b"].State == SecondPath })
	if b.Status()["a"].State != Alive {
		t.Fatal("b does not hear a")
	}
	a.until(t, "b given up all the same", func() bool { return a.Status()["b"].Suspect })
	b.stop()
	a.until(t, "b's process gone", func() bool { return a.Status()["b"].State == ProcessDown })
}

func TestNewRefusesBadConfig(t *testing.T) {
	taken := start(t, "a", "127.0.0.1:0")
	for _, cfg := range []Config{
		{Self: "", Listen: "127.0.0.1:0"},
		{Self: strings.Repeat("n", 64), Listen: "127.0.0.1:0"},
		{Self: "a", Listen: "nonsense"},
		{Self: "a", Listen: "127.0.0.1:0", Interval: time.Second, Timeout: time.Second},
		{Self: "a", Listen: taken.addr},
		{Self: "a", Listen: "127.0.0.1:0", Second: taken.addr},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
