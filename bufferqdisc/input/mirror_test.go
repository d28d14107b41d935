package input

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

// TestOnItsWayBeforeTheGuestHasIt: when the client's send has returned, the guest could
// have the packet, and the backup's kernel has the copy, whatever our processes do.
func TestOnItsWayBeforeTheGuestHasIt(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	g := l.primary.guests[0]
	for seq := uint32(1); seq <= 200; seq++ {
		l.primary.send(g, seq)
		if got := seqsOf(k.keptNow(0)); len(got) != int(seq) || got[seq-1] != seq {
			t.Fatalf("after packet %d the backup has %v", seq, got)
		}
	}
	if got := k.Stats(); got.Kept != 200 || got.Missing+got.Dropped+got.Strange > 0 {
		t.Errorf("%+v", got)
	}
}

// TestEveryProtocol: the copy is what the guest got, for whatever may be in a frame, over
// both families of tunnel.
func TestEveryProtocol(t *testing.T) {
	for name, v6 := range map[string]bool{"over IPv4": false, "over IPv6": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, 1, v6)
			_, k := l.protect(Config{})
			g := l.primary.guests[0]
			frames := map[string][]byte{
				"ARP":          frame(g.mac, unix.ETH_P_ARP, 1, 60),
				"broadcast":    frame(bytes.Repeat([]byte{0xff}, 6), unix.ETH_P_ARP, 2, 60),
				"multicast":    frame(group, etherTest, 3, 100),
				"IPv6":         ipFrame(g, true, unix.IPPROTO_UDP, make([]byte, 300), 0, false),
				"IPv4":         ipFrame(g, false, unix.IPPROTO_UDP, make([]byte, 300), 0, false),
				"VLAN":         frame(g.mac, unix.ETH_P_8021Q, 0x0042_0800, 80),
				"two VLANs":    frame(g.mac, unix.ETH_P_8021AD, 0x0042_8100, 80),
				"unknown":      frame(g.mac, etherTest, 4, 60),
				"LLC":          frame(g.mac, 200, 5, 214),
				"of full size": frame(g.mac, etherTest, 6, 1514),
			}
			for name, f := range frames {
				l.primary.write(f)
				got, err := g.receive(1)
				must(t, err)
				kept := k.keptNow(0)
				if len(kept) != 1 || !bytes.Equal(kept[0], got[0]) || !bytes.Equal(got[0], f[vnetHeader:]) {
					t.Errorf("%s: sent % .40x, the guest got % .40x, the backup kept %d: % .40x", name, f[vnetHeader:], got[0], len(kept), kept)
				}
				k.keepNothing(0)
			}
		})
	}
}

// TestOffloadsAreDoneBeforeTheTunnel: what the guest gets as one large packet, or without
// a checksum, is kept in pieces that are whole.
func TestOffloadsAreDoneBeforeTheTunnel(t *testing.T) {
	l := newLab(t, 1, false)
	_, k := l.protect(Config{})
	g := l.primary.guests[0]
	for name, c := range map[string]struct {
		v6     bool
		proto  byte
		size   int
		gso    uint16
		pieces int
	}{
		"checksum, IPv4": {false, unix.IPPROTO_UDP, 1000, 0, 1},
		"checksum, IPv6": {true, unix.IPPROTO_UDP, 1000, 0, 1},
		"TSO, IPv4":      {false, unix.IPPROTO_TCP, 60000, 1400, 43},
		"TSO, IPv6":      {true, unix.IPPROTO_TCP, 60000, 1400, 43},
	} {
		payload := make([]byte, c.size)
		for i := range payload {
			payload[i] = byte(i * 7)
		}
		l.primary.write(ipFrame(g, c.v6, c.proto, payload, c.gso, true))
		if got, err := g.receive(1); err != nil || len(got[0]) < c.size {
			t.Fatalf("%s: the guest did not get it whole: %d frames, %v", name, len(got), err)
		}
		kept := k.keptNow(0)
		if len(kept) != c.pieces {
			t.Fatalf("%s: kept in %d pieces, want %d", name, len(kept), c.pieces)
		}
		var together []byte
		for _, f := range kept {
			if err := bridge.CheckIP(f); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			together = append(together, bridge.Payload(f)...)
		}
		if !bytes.Equal(together, payload) {
			t.Errorf("%s: %d octets that are not the %d sent", name, len(together), len(payload))
		}
		k.keepNothing(0)
	}
}

// TestTaken: a packet in the tap's queue is not the guest's yet; one that it has read is.
func TestTaken(t *testing.T) {
	l := newLab(t, 2, false)
	m, k := l.protect(Config{})
	g := l.primary.guests[0]
	taken := func() uint64 {
		t.Helper()
		all, err := m.Taken()
		must(t, err)
		k.Forget(all)
		return all[0]
	}
	l.primary.send(g, 1, 2, 3, 4)
	if n := taken(); n != 0 {
		t.Fatalf("taken %d of a queue of four", n)
	}
	g.wantSeqs(t, 1, 2, 3)
	l.primary.send(g, 5)
	if n := taken(); n != 0 || len(k.keptNow(0)) != 5 {
		t.Fatalf("taken %d, kept %d: one of the first four is in the queue", n, len(k.keptNow(0)))
	}
	g.wantSeqs(t, 4)
	if n := taken(); n != 4 {
		t.Fatalf("taken %d; 5 is in the queue", n)
	}
	g.wantSeqs(t, 5)
	if n := taken(); n != 5 || len(k.keptNow(0)) != 0 {
		t.Fatalf("taken %d, kept %d; the guest has all", n, len(k.keptNow(0)))
	}
	if s := m.Stats(); s.Copied != 5 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// TestUncounted: a packet that was in the queue before the first was counted is not taken for
// one of those, and one that came before there were copies is waited for and has no number.
func TestUncounted(t *testing.T) {
	l := newLab(t, 1, false)
	k := l.keep(Config{})
	m := l.mirror(k)
	g := l.primary.guests[0]
	l.primary.send(g, 1)
	must(t, m.Count())
	g.wantSeqs(t, 1)
	must(t, m.Look())
	l.primary.send(g, 2)
	must(t, m.Start())
	if err := m.Pause(time.Minute); !errors.Is(err, ErrQueued) {
		t.Errorf("with a packet in the queue: %v", err)
	}
	g.wantSeqs(t, 2)
	must(t, m.Pause(time.Minute))
	m.Resume()
	l.primary.send(g, 3)
	must(t, m.Look())
	l.primary.send(g, 4)
	g.wantSeqs(t, 3)
	if err := m.Pause(time.Minute); !errors.Is(err, ErrQueued) {
		t.Errorf("with one of two packets in the queue: %v", err)
	}
	if taken, err := m.Taken(); err != nil || taken[0] != 1 {
		t.Errorf("taken %d, the guest has the first that has a number; %v", taken, err)
	}
	if kept := seqsOf(k.keptNow(0)); !slices.Equal(kept, []uint32{3, 4}) || k.Stats().Missing > 0 {
		t.Errorf("kept %v, %+v", kept, k.Stats())
	}
}

// TestFullQueue: what the tap drops holds nothing up.
func TestFullQueue(t *testing.T) {
	l := newLab(t, 1, false)
	m, k := l.protect(Config{})
	g := l.primary.guests[0]
	const sent = 1500 // the queue has room for 1000
	for i := range uint32(sent) {
		l.primary.send(g, i)
	}
	if _, err := m.Taken(); err != nil {
		t.Fatal(err)
	}
	if kept := len(k.keptNow(0)); kept != sent {
		t.Fatalf("kept %d of %d", kept, sent)
	}
	got := 0
	for g.tryReceive() != nil {
		got++
	}
	all, err := m.Taken()
	must(t, err)
	if got == sent || all[0] != sent {
		t.Fatalf("the guest read %d of %d, and %d are said to be taken", got, sent, all[0])
	}
}
