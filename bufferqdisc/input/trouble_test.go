package input

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestNothingIsLeft on either host, by Close, by a set-up that fails, and by Clear.
func TestNothingIsLeft(t *testing.T) {
	l := newLab(t, 2, false)
	p, b := l.primary.traces(), l.backup.traces()
	l.primary.enter()
	m, k := l.protect(Config{})
	l.standby(k)
	must(t, m.Close())
	must(t, Clear(l.primary.taps()))
	must(t, k.Close())
	l.tapsUp()
	l.primary.wantTraces(p)
	l.backup.wantTraces(b)
	l.primary.enter()
	for name, c := range map[string]MirrorConfig{
		"no such tap":     {Taps: []string{"g0", "nowhere"}, Ports: [][]uint16{{4000}, {4001}}},
		"not a TAP":       {Taps: []string{"g0", "o0"}, Ports: [][]uint16{{4000}, {4001}}},
		"no port":         {Taps: []string{"g0", "g1"}, Ports: [][]uint16{{4000}, {}}},
		"one NIC too few": {Taps: []string{"g0", "g1"}, Ports: [][]uint16{{4000}}},
	} {
		c.Name, c.To = "guest", l.backup.addr
		if m, err := NewMirror(c); err == nil || m != nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		if after := l.primary.traces(); after != p {
			t.Errorf("%s: left\n%s\nwas\n%s", name, after, p)
		}
	}
}

// TestCut: a guest that another host has taken over gets nothing more, until Clear.
func TestCut(t *testing.T) {
	l := newLab(t, 1, false)
	before := l.primary.traces()
	g := l.primary.guests[0]
	l.primary.enter()
	must(t, Cut([]string{"g0", "nowhere"}))
	l.primary.send(g, 1)
	must(t, Clear([]string{"g0", "nowhere"}))
	l.primary.send(g, 2)
	g.wantSeqs(t, 2)
	l.primary.wantTraces(before)
}

// TestTunnelDown: the guest's input does not suffer, and what did not arrive is counted.
func TestTunnelDown(t *testing.T) {
	l := newLab(t, 1, false)
	m, k := l.protect(Config{})
	g := l.primary.guests[0]
	l.primary.send(g, 1)
	must(t, netlink.LinkSetDown(byName(t, "m")))
	l.primary.send(g, 2, 3)
	g.wantSeqs(t, 1, 2, 3)
	taken, err := m.Taken()
	must(t, err)
	if k.Forget(taken); k.Stats().Missing != 2 {
		t.Errorf("of 3 copies one came: %+v", k.Stats())
	}
	up(t, "m")
	l.awaitTunnel()
	l.primary.send(g, 4)
	g.wantSeqs(t, 4)
	kept := seqsOf(k.keptNow(0))
	if s := k.Stats(); len(kept) != 1 || kept[0] != 4 || s.Missing != 2 {
		t.Errorf("kept %v, %+v", kept, s)
	}
	must(t, netlink.LinkDel(byName(t, hook.DeviceName(tunnelPrefix, "g0")))) // by somebody
	l.primary.send(g, 5)
	g.wantSeqs(t, 5)
	if s := m.Stats(); s.Copied != 4 || s.Failed != 1 {
		t.Errorf("%+v", s)
	}
}

// TestFullLog: the oldest copies go, are counted, and the guest is delivered the newest.
func TestFullLog(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{LimitPackets: 10})
	l.standby(k)
	g := l.primary.guests[0]
	for s := range uint32(25) {
		l.primary.send(g, s)
	}
	l.tapsUp()
	must(t, l.deliver(k, patience)())
	l.backup.guests[0].wantSeqs(t, counting(15, 24)...)
	if s := k.Stats(); s.Dropped != 15 || s.Replayed != 10 {
		t.Errorf("%+v", s)
	}
}

// TestPortTaken: the primary's host has one of the ports in use, or all.
func TestPortTaken(t *testing.T) {
	l := newLab(t, 1, false)
	before := l.primary.traces()
	k := l.keep(Config{})
	l.primary.enter()
	ports := k.Ports()[0]
	take := func(port uint16) {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(port)})
		must(t, err)
		t.Cleanup(func() { c.Close() })
	}
	c := MirrorConfig{Name: "guest", Taps: []string{"g0"}, To: l.backup.addr, Ports: k.Ports()}
	for _, p := range ports[:len(ports)-1] {
		take(p)
	}
	m, err := NewMirror(c)
	must(t, err)
	must(t, m.Start())
	l.primary.send(l.primary.guests[0], 1)
	if kept := k.keptNow(0); len(kept) != 1 {
		t.Errorf("kept %d of one", len(kept))
	}
	must(t, m.Close())
	take(ports[len(ports)-1])
	if _, err := NewMirror(c); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("all ports taken: %v", err)
	}
	must(t, Clear(l.primary.taps()))
	l.primary.wantTraces(before)
}

// TestSmallNetwork: a tunnel over IPv6 that would lose large packets is refused.
func TestSmallNetwork(t *testing.T) {
	l := newLab(t, 1, true)
	k := l.keep(Config{})
	must(t, netlink.LinkSetMTU(byName(t, "m"), 1569))
	_, err := NewMirror(MirrorConfig{Name: "guest", Taps: []string{"g0"}, To: l.backup.addr, Ports: k.Ports()})
	if err == nil || !strings.Contains(err.Error(), "raise its MTU") {
		t.Errorf("%v", err)
	}
}

// TestStrangers: datagrams from elsewhere are not taken, and what is not of the tunnel is
// counted.
func TestStrangers(t *testing.T) {
	l := newLab(t, 1, false)
	k := l.keep(Config{})
	port := int(k.Ports()[0][0])
	to := &net.UDPAddr{IP: l.backup.addr.AsSlice(), Port: port}
	send := func(from *net.UDPAddr, what []byte) {
		c, err := net.DialUDP("udp4", from, to)
		must(t, err)
		defer c.Close()
		_, err = c.Write(what)
		must(t, err)
	}
	whole := append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, make([]byte, 60)...)
	send(nil, whole) // another port
	send(&net.UDPAddr{Port: port}, []byte("not VXLAN"))
	send(&net.UDPAddr{Port: port}, whole)
	if kept := k.keptNow(0); len(kept) != 1 || k.Stats().Strange != 1 {
		t.Errorf("kept %d, %+v", len(kept), k.Stats())
	}
}

// TestOneBridgeForAll: where the guest's bridge carries the tunnel too and floods it, the
// copies are not copied again.
func TestOneBridgeForAll(t *testing.T) {
	l := newLab(t, 1, false)
	m, k := l.protect(Config{})
	g := l.primary.guests[0]
	l.primary.send(g, 1) // and the hosts know each other's addresses
	a, err := netlink.ParseAddr("10.0.0.1/24")
	must(t, err)
	must(t, netlink.AddrDel(byName(t, "m"), a))
	must(t, netlink.LinkSetMaster(byName(t, "m"), byName(t, "br0")))
	must(t, netlink.AddrAdd(byName(t, "br0"), a))
	l.awaitTunnel()
	must(t, netlink.LinkSetNoMaster(byName(t, "m"))) // and the bridge forgets what it has learned
	must(t, netlink.LinkSetMaster(byName(t, "m"), byName(t, "br0")))
	must(t, netlink.LinkSetLearning(byName(t, "m"), false)) // flooded from now on
	before := m.Stats().Copied
	for range 10 {
		l.primary.write(frame(group, etherTest, 7, 1000))
	}
	// Some more are the hosts' own ARP; twice as many are copies of copies.
	if got := m.Stats().Copied - before; got < 10 || got >= 20 || m.Stats().Failed != 0 {
		t.Errorf("10 packets were copied %d times: %+v", got, m.Stats())
	}
	if got := len(k.keptNow(0)); got < 10 {
		t.Errorf("kept %d", got)
	}
}

// TestSomethingInTheWay: a filter of the user's on the tap's egress is left alone.
func TestSomethingInTheWay(t *testing.T) {
	for name, block := range map[string]func(tap netlink.Link){
		"filter": func(tap netlink.Link) {
			must(t, netlink.QdiscAdd(clsact(tap)))
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
			})
			must(t, err)
			defer p.Close()
			must(t, netlink.FilterAdd(&netlink.BpfFilter{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: tap.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_ALL, Priority: 1, Handle: 1},
				Fd:          p.FD(), Name: "theirs", DirectAction: true,
			}))
		},
		"ingress qdisc": func(tap netlink.Link) {
			must(t, netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: tap.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
			}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, false)
			block(byName(t, "g0"))
			before := l.primary.traces()
			k := l.keep(Config{})
			m, err := NewMirror(MirrorConfig{Name: "guest", Taps: []string{"g0"}, To: l.backup.addr, Ports: k.Ports()})
			must(t, err)
			if err := m.Start(); !errors.Is(err, hook.ErrInTheWay) || !strings.Contains(err.Error(), "g0") {
				t.Errorf("Start: %v", err)
			} else {
				t.Log(err)
			}
			if err := Cut([]string{"g0"}); !errors.Is(err, hook.ErrInTheWay) {
				t.Errorf("Cut: %v", err)
			}
			must(t, m.Close())
			must(t, Clear([]string{"g0"}))
			l.primary.wantTraces(before)
		})
	}
}
