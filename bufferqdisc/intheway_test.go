package bufferqdisc

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func passProgram(t *testing.T, kind ebpf.ProgramType, verdict int32) *ebpf.Program {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func clsact(l netlink.Link) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// userFilter is a filter of somebody else's.
func userFilter(t *testing.T, l netlink.Link, parent uint32) {
	must(t, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: l.Attrs().Index, Parent: parent, Protocol: unix.ETH_P_ALL, Priority: 1, Handle: 1,
		},
		Fd: passProgram(t, ebpf.SchedCLS, 0).FD(), Name: "theirs", DirectAction: true,
	}))
}

func TestSomethingInTheWay(t *testing.T) {
	ways := map[string]func(t *testing.T, tap netlink.Link){
		"filter on clsact": func(t *testing.T, tap netlink.Link) {
			must(t, netlink.QdiscAdd(clsact(tap)))
			userFilter(t, tap, netlink.HANDLE_MIN_INGRESS)
		},
		"filter on ingress": func(t *testing.T, tap netlink.Link) { // as libvirt's <bandwidth> does
			must(t, netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: tap.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
			}}))
			userFilter(t, tap, netlink.MakeHandle(0xffff, 0))
		},
		"tcx": func(t *testing.T, tap netlink.Link) {
			k, err := link.AttachTCX(link.TCXOptions{
				Interface: tap.Attrs().Index, Attach: ebpf.AttachTCXIngress, Program: passProgram(t, ebpf.SchedCLS, -1),
			})
			if errors.Is(err, ebpf.ErrNotSupported) {
				t.Skip(err)
			}
			must(t, err)
			t.Cleanup(func() { k.Close() })
		},
		"xdp": func(t *testing.T, tap netlink.Link) {
			must(t, netlink.LinkSetXdpFd(tap, passProgram(t, ebpf.XDP, 2).FD()))
		},
	}
	eachBackend(t, func(t *testing.T, backend string) {
		for name, block := range ways {
			t.Run(name, func(t *testing.T) {
				l := newLab(t, 2)
				block(t, byName(t, l.guests[1].name))
				before := l.traces()
				_, err := Setup(Config{Name: "guest", Taps: l.taps(), Backend: backend})
				if !errors.Is(err, ErrInTheWay) || !strings.Contains(err.Error(), l.guests[1].name) {
					t.Errorf("Setup: %v", err)
				}
				t.Log(err)
				l.wantTraces(before)
				must(t, Clear(l.taps()))
				l.wantTraces(before)
			})
		}
	})
}

// TestTheirQdiscStays: a clsact or ingress qdisc without ingress filters is used and left.
func TestTheirQdiscStays(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for _, kind := range []string{"clsact", "ingress"} {
			t.Run(kind, func(t *testing.T) {
				l := newLab(t, 1)
				tap := byName(t, l.guests[0].name)
				if kind == "clsact" {
					must(t, netlink.QdiscAdd(clsact(tap)))
					userFilter(t, tap, netlink.HANDLE_MIN_EGRESS)
				} else {
					must(t, netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
						LinkIndex: tap.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
					}}))
				}
				before := l.traces()
				b := setUp(t, l, backend, 0)
				must(t, checkOutputCommit(l, b))
				must(t, b.Teardown())
				l.wantTraces(before)
				b = setUp(t, l, backend, 0)
				must(t, b.Abandon())
				wantRefusalThenClear(l, backend)
				l.wantTraces(before)
			})
		}
	})
}

// TestFilterAddedLater: somebody's filter that comes between Setup and Hold is not replaced.
func TestFilterAddedLater(t *testing.T) {
	l := newLab(t, 2)
	b := setUp(t, l, "relay", 0)
	tap := byName(t, l.guests[1].name)
	must(t, netlink.QdiscAdd(clsact(tap)))
	userFilter(t, tap, netlink.HANDLE_MIN_INGRESS)
	before := l.traces()
	if err := b.Hold(); !errors.Is(err, ErrInTheWay) {
		t.Errorf("Hold: %v", err)
	}
	l.wantTraces(before)
	l.send(l.guests[0], 1)
	must(t, l.wantSeqs(1))
}

func TestBadConfig(t *testing.T) {
	l := newLab(t, 1)
	before := l.traces()
	for name, c := range map[string]Config{
		"no such tap":     {Taps: []string{"g0", "nowhere"}, Backend: "relay"},
		"no name":         {Taps: []string{"g0", ""}, Backend: "relay"},
		"not a TAP":       {Taps: []string{"g0", "o0"}, Backend: "relay"},
		"twice":           {Taps: []string{"g0", "g0"}, Backend: "relay"},
		"unknown backend": {Taps: []string{"g0"}, Backend: "netmap"},
	} {
		c.Name = "guest"
		b, err := Setup(c)
		if err == nil || b != nil {
			t.Errorf("%s: no error", name)
		}
		t.Logf("%s: %v", name, err)
	}
	l.wantTraces(before)
}
