package commit

import (
	"bytes"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/hamgr/hamgr/hamgr/trace"
)

// TestWhenAFrameMayLeave: emitted at 130, the frame belongs to the epoch that ends at 150
// and is committed at 155.
func TestWhenAFrameMayLeave(t *testing.T) {
	for name, c := range map[string]struct {
		emitted, seen float64
		want          []Kind
	}{
		"with its epoch":              {130, 155.1, nil},
		"at the boundary":             {150, 155.1, nil},
		"before the commit":           {130, 154.9, []Kind{Leak}},
		"at once":                     {130, 130.1, []Kind{Leak}},
		"with the epoch before":       {151, 155.1, []Kind{Leak}},
		"after the last boundary":     {230, 240, []Kind{Leak}},
		"after newer epochs":          {130, 290, []Kind{Late}},
		"never, and the session went": {130, 0, []Kind{Missing}},
		"never, with the last epoch":  {210, 0, nil},
		"before anything is held":     {99, 99.1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, frame := range map[string]func(w *world) []byte{
				"ARP": (*world).arp, "UDP": func(w *world) []byte { return w.udp6("! x") },
				"TCP": func(w *world) []byte { return w.tcp(true, 1, 1, "! x\n") },
			} {
				w := protected(t)
				w.ask(1, w.udp(false, "hello"))
				w.ask(500, w.udp(false, "hello"))
				w.emit(c.emitted, c.seen, "h1", frame(w))
				r := w.check(Options{})
				w.want(r, c.want...)
				if len(c.want) == 0 && c.seen > 100 && r.Protocols[kind] != 1 {
					t.Errorf("%v held, want %s", r.Protocols, kind)
				}
			}
		})
	}
}

// TestLeave: without a commit, output may go when the cluster has said so, and not before.
func TestLeave(t *testing.T) {
	leave := map[string]func(w *world){
		"solo":            func(w *world) { w.order(300, 3, "solo", "buffer", "h1") },
		"syncing":         func(w *world) { w.order(300, 4, "syncing", "buffer", "h1") },
		"unprotected":     func(w *world) { w.order(300, 2, trace.Gone, "", "") },
		"checkpoint mode": func(w *world) { w.order(300, 2, "protected", "checkpoint", "h1") },
		"on the way there": func(w *world) {
			w.order(300, 2, "protected", "buffer", "h1")
			for i := len(w.events) - 3; i < len(w.events); i++ {
				w.events[i].Wanted = "checkpoint"
			}
		},
	}
	for name, say := range leave {
		w := protected(t)
		say(w)
		w.emit(240, 300.1, "h1", w.udp(true, "! x"))
		w.emit(310, 310.1, "h1", w.udp(true, "! y"))
		t.Run(name, func(t *testing.T) { w.want(w.check(Options{})) })
		w.emit(241, 299.9, "h1", w.udp(true, "! z"))
		t.Run(name+", earlier", func(t *testing.T) { w.want(w.check(Options{}), Leak) })
	}
	w := protected(t)
	w.order(300, 3, "lost", "buffer", "h1")
	w.emit(240, 310, "h1", w.udp(true, "! x"))
	w.want(w.check(Options{}), Leak)
}

// TestNeverHeld: a primary that does not say that it holds is judged by the cluster's word.
func TestNeverHeld(t *testing.T) {
	w := &world{t: t}
	w.order(0, 2, "protected", "buffer", "h1")
	w.emit(10, 10.1, "h1", w.arp())
	w.want(w.check(Options{}), Leak)
	w = &world{t: t}
	w.order(0, 2, "protected", "checkpoint", "h1")
	w.emit(10, 10.1, "h1", w.arp())
	w.want(w.check(Options{}))
}

// failover is protected, until h2 restores epoch 5 (of 6) at 320.
func failover(t *testing.T, epoch uint64) *world {
	w := protected(t)
	w.order(300, 3, "recovering", "buffer", "h2")
	w.note(320, trace.Event{Node: "h2", Kind: trace.Restored, Generation: 2, Epoch: epoch})
	w.order(325, 3, "solo", "buffer", "h2")
	return w
}

func TestTwoEmitters(t *testing.T) {
	w := failover(t, 6)
	w.emit(310, 310.1, "h1", w.udp(true, "! x")) // the old primary runs on
	w.emit(330, 330.1, "h2", w.udp(true, "! y"))
	w.want(w.check(Options{}), NotOwner)

	w = failover(t, 6)
	w.emit(220, 305, "h1", w.udp(true, "! x")) // committed before, released a little late
	w.want(w.check(Options{}))

	w = failover(t, 6)
	w.emit(250, 305, "h1", w.udp(true, "! x")) // held when it lost the guest
	w.want(w.check(Options{}), Leak)

	w = failover(t, 6)
	w.emit(250, 250.1, "h2", w.udp(true, "! x")) // the standby speaks
	w.want(w.check(Options{}), NotOwner)
}

// TestGuestComesBack: an old stay on a host explains nothing in a new one, nor the other
// way round.
func TestGuestComesBack(t *testing.T) {
	w := failover(t, 6)
	w.note(400, trace.Event{Node: "h2", Kind: trace.Hold, Generation: 4})
	w.order(410, 4, "protected", "buffer", "h2")
	w.order(500, 5, "recovering", "buffer", "h1")
	w.order(520, 5, "solo", "buffer", "h1")
	w.emit(250, 530, "h1", w.udp(true, "! x")) // of the first stay, held at its end
	w.emit(531, 531.1, "h1", w.udp(true, "! y"))
	w.want(w.check(Options{}), Leak)
	w.note(600, trace.Event{Node: "h1", Kind: trace.Hold, Generation: 6})
	w.note(600, trace.Event{Node: "h1", Kind: trace.Boundary, Generation: 6, Epoch: 1})
	w.note(605, trace.Event{Node: "h2", Kind: trace.Committed, Generation: 6, Epoch: 1})
	w.emit(251, 610, "h1", w.udp(true, "! z")) // of the first stay, explained by the second's commit?
	w.want(w.check(Options{}), Leak, Leak)
	w.epoch(250, 0, 2, 7) // nor when its epoch has ended, uncommitted
	w.emit(240, 611, "h1", w.udp(true, "! z"))
	w.want(w.check(Options{}), Leak, Leak, Leak)
}

func TestRestoredEpoch(t *testing.T) {
	w := failover(t, 5)
	w.emit(190, 206, "h1", w.udp(true, "! x")) // epoch 5
	w.want(w.check(Options{}))
	w.emit(210, 231, "h1", w.udp(true, "! y")) // epoch 6, committed, and yet not restored
	w.want(w.check(Options{}), NotRestored)
}

// TestCheckpointMode: the same frames are rolled back, which that mode does not exclude.
func TestCheckpointMode(t *testing.T) {
	w := &world{t: t}
	w.order(0, 2, "protected", "checkpoint", "h1")
	w.epoch(100, 105, 2, 1)
	w.emit(120, 120.1, "h1", w.udp(true, "a 1 1 "+hash(1)))
	w.order(300, 3, "recovering", "checkpoint", "h2")
	w.note(320, trace.Event{Node: "h2", Kind: trace.Restored, Generation: 2, Epoch: 1})
	w.emit(330, 330.1, "h2", w.udp(true, "b 1 1 "+hash(2)))
	r := w.check(Options{})
	w.want(r)
	if r.RolledBackFrames != 1 || r.Rollbacks != 1 || r.Restores != 1 {
		t.Fatalf("%+v", r)
	}
}

func TestStrangeFrames(t *testing.T) {
	w := failover(t, 6)
	w.frames = append(w.frames, Frame{Time: at(330), Host: "h2", Data: w.udp(true, "! x")})
	w.want(w.check(Options{}), Strange)

	rarp := w.serialize(&layers.Ethernet{SrcMAC: guestMAC, DstMAC: net.HardwareAddr{255, 255, 255, 255, 255, 255}, EthernetType: etherTypeRARP}, gopacket.Payload(make([]byte, 46)))
	w = failover(t, 6)
	w.frames = append(w.frames, Frame{Time: at(330), Host: "h2", Data: rarp})
	r := w.check(Options{})
	if w.want(r); r.Announcements != 1 {
		t.Fatalf("%+v", r)
	}
	w.note(328, trace.Event{Node: "h2", Kind: trace.Hold, Generation: 4})
	w.emit(329, 0, "h2", rarp) // QEMU's, which is held: not this one
	if r := w.check(Options{}); r.Err() != nil || r.Announcements != 1 {
		t.Fatalf("%+v", r)
	}
	w.events = w.events[:len(w.events)-1]
	w.frames = w.frames[:len(w.frames)-1]
	w.frames = append(w.frames, Frame{Time: at(330), Host: "h2", Data: w.udp(false, "the host's own, or a neighbour's")})
	w.want(w.check(Options{}))
	w.frames = append(w.frames, Frame{Time: at(6000), Host: "h2", Data: rarp})
	w.want(w.check(Options{}), Strange)
	w.frames = w.frames[:len(w.frames)-1]
	w.frames = append(w.frames, Frame{Time: at(319), Host: "h2", Data: rarp}, Frame{Time: at(330), Host: "h1", Data: rarp})
	w.want(w.check(Options{}), Strange, Strange)
}

// TestFramesAlike: of identical frames, as many may be outside as have the right.
func TestFramesAlike(t *testing.T) {
	w := protected(t)
	w.emit(110, 0, "h1", w.arp())
	w.emit(130, 0, "h1", w.arp())
	for _, seen := range []float64{131, 156} { // 130 and 155 are their commits
		w.frames = append(w.frames, Frame{Time: at(seen), Host: "h1", Data: w.arp()})
	}
	w.want(w.check(Options{}))
	w.frames = append(w.frames, Frame{Time: at(157), Host: "h1", Data: w.arp()})
	w.want(w.check(Options{}), Strange)

	w = protected(t)
	w.emit(110, 0, "h1", w.arp())
	w.emit(130, 0, "h1", w.arp())
	for _, seen := range []float64{131, 132} {
		w.frames = append(w.frames, Frame{Time: at(seen), Host: "h1", Data: w.arp()})
	}
	w.want(w.check(Options{}), Leak)

	w = protected(t)
	w.emit(110, 0, "h1", w.arp())
	w.emit(130, 0, "h1", w.arp())
	for _, seen := range []float64{156, 157} { // which is which cannot be told
		w.frames = append(w.frames, Frame{Time: at(seen), Host: "h1", Data: w.arp()})
	}
	w.want(w.check(Options{}))
}

func TestOrderOfEpochs(t *testing.T) {
	w := protected(t)
	w.emit(110, 181, "h1", w.udp(true, "! x")) // epoch 2
	w.emit(140, 156, "h1", w.udp(true, "! y")) // epoch 3
	w.want(w.check(Options{}), Reordered)
	w = protected(t)
	w.emit(110, 130.3, "h1", w.udp(true, "! x"))
	w.emit(111, 130.2, "h1", w.udp(true, "! y")) // the same epoch: networks do that
	w.want(w.check(Options{}))
}

func TestNetworkWasDown(t *testing.T) {
	w := protected(t)
	w.ask(1, w.udp(false, "hello"))
	w.emit(130, 0, "h1", w.udp(true, "! x"))
	w.want(w.check(Options{})) // the capture ends here
	w.ask(500, w.udp(false, "hello"))
	w.want(w.check(Options{}), Missing)
	w.want(w.check(Options{Faults: []Fault{{LinkDown, "h1", at(150), at(160)}}}))
	w.want(w.check(Options{Faults: []Fault{{LinkDown, "h2", at(150), at(160)}}}), Missing)
}

// TestChecksumsMayBeFilledIn on the way, and short frames padded.
func TestChecksumsMayBeFilledIn(t *testing.T) {
	w := protected(t)
	unfinished, tcp := w.udp(true, "! x"), w.tcp(true, 1, 1, "! x\n")
	finished, finishedTCP := bytes.Clone(unfinished), bytes.Clone(tcp)
	unfinished[14+20+6], unfinished[14+20+7] = 0xde, 0xad
	tcp[14+20+16], tcp[14+20+17] = 0xde, 0xad
	short, padded := w.arp()[:42], w.arp()
	w.emit(110, 0, "h1", unfinished)
	w.emit(111, 0, "h1", short)
	w.emit(112, 0, "h1", tcp)
	for _, data := range [][]byte{finished, padded, finishedTCP} {
		w.frames = append(w.frames, Frame{Time: at(131), Host: "h1", Data: data})
	}
	w.want(w.check(Options{}))
	finished[len(finished)-1] ^= 1
	w.want(w.check(Options{}), Strange)
}

// TestVLAN: a tagged frame is held like any other.
func TestVLAN(t *testing.T) {
	w := protected(t)
	tagged := w.serialize(ethernet(true, layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeIPv4},
		w.ip4(true, layers.IPProtocolICMPv4), &layers.ICMPv4{})
	w.emit(110, 111, "h1", tagged)
	w.want(w.check(Options{}), Leak)
}

// TestCommittedAndNotAcknowledged: the agent died before the commit reached it. What it
// held is lost, as in any network, whatever the next session commits.
func TestCommittedAndNotAcknowledged(t *testing.T) {
	w := protected(t)
	w.ask(1, w.udp(false, "hello"))
	w.emit(210, 0, "h1", w.udp(true, "! x"))
	w.emit(240, 0, "h1", w.udp(true, "! y")) // when no agent was there
	w.order(300, 3, "solo", "buffer", "h1")
	w.note(400, trace.Event{Node: "h1", Kind: trace.Hold, Generation: 4})
	for n := range uint64(3) {
		w.epoch(400+25*float64(n), 405+25*float64(n), 4, n+1)
	}
	w.ask(900, w.udp(false, "hello"))
	w.want(w.check(Options{}))
}

func TestReportFigures(t *testing.T) {
	w := protected(t)
	for i := range 10 {
		w.emit(110+float64(i), 131+float64(i)/10, "h1", w.udp(true, "! x"))
	}
	r := w.check(Options{})
	w.want(r)
	if r.Held != 10 || r.Burst.Max != 10 || r.Epochs != 6 || r.Commit.P50 != 5 || r.Hold.Max != 21 || r.Spread.Max < 0.89 || r.Spread.Max > 0.91 {
		t.Fatalf("%+v", r)
	}
	if len(r.Violations) > 0 || time.Duration(r.After.P50) < 0 {
		t.Fatalf("%+v", r)
	}
}

func TestPlot(t *testing.T) {
	w := protected(t)
	for _, r := range []Report{w.check(Options{}), {}} {
		if err := r.Plot(filepath.Join(t.TempDir(), "empty.png")); err != nil {
			t.Fatal(err)
		}
	}
	w.emit(110, 111, "h1", w.udp(true, "! x"))
	w.emit(111, 131, "h1", w.udp(true, "! y"))
	r := w.check(Options{})
	file := filepath.Join(t.TempDir(), "commit.png")
	if err := r.Plot(file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Fatal(err)
	}
}

// TestEachOrderCountsFromItsFirstHearing: nodes learn late, or of two orders at once.
func TestEachOrderCountsFromItsFirstHearing(t *testing.T) {
	solo := func(ms float64, node string, index uint64) trace.Event {
		return trace.Event{Time: at(ms), Node: node, Kind: trace.Order, Domain: "g1", Index: index, Generation: 3, Phase: "solo", Mode: "buffer", Primary: "h1"}
	}
	w := protected(t)
	w.events = append(w.events, solo(310, "h1", 100), solo(300, "h2", 101)) // 101: of another guest
	w.emit(240, 301, "h1", w.udp(true, "! x"))
	w.want(w.check(Options{}))

	w = protected(t)
	away := trace.Event{Time: at(305), Node: "h3", Kind: trace.Order, Domain: "g1", Index: 101, Generation: 4, Phase: "lost", Mode: "buffer", Primary: "h1"}
	w.events = append(w.events, solo(310, "h1", 100), away) // h3 has missed the solo
	w.emit(240, 306, "h1", w.udp(true, "! x"))
	w.want(w.check(Options{}))
}

// TestNotSeenBeforeItWasSent: a frame on the network stems from no later emission.
func TestNotSeenBeforeItWasSent(t *testing.T) {
	w := &world{t: t}
	w.emit(50, 40, "h1", w.udp(true, "! x"))
	w.want(w.check(Options{}), Strange)
	w.want(w.check(Options{Clocks: 20 * time.Millisecond}))
}

func TestClocksMayDiffer(t *testing.T) {
	w := protected(t)
	w.emit(130, 154, "h1", w.udp(true, "! x")) // committed at 155, by another clock
	w.want(w.check(Options{}), Leak)
	w.want(w.check(Options{Clocks: 2 * time.Millisecond}))
}

func TestOnlyWhatCameAfterIsJudged(t *testing.T) {
	w := protected(t)
	w.emit(130, 131, "h1", w.udp(true, "! x"))
	w.emit(160, 161, "h1", w.udp(true, "! y"))
	w.want(w.check(Options{From: at(150)}), Leak)
}
