package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Draw is the schedule of a seed.
func Draw(seed uint64) Schedule {
	r := rand.New(rand.NewPCG(seed, 0x68616d6772))
	s := Schedule{Seed: seed}
	shape := [][2]int{{3, 3}, {3, 3}, {3, 3}, {4, 3}, {4, 3}, {5, 5}, {5, 3}}[r.IntN(7)]
	s.Hosts, s.Managers = shape[0], shape[1]
	s.drawVMs(r)
	s.Latency, s.Jitter = 100*time.Microsecond, time.Duration(r.IntN(2000))*time.Microsecond
	switch r.IntN(10) {
	case 0: // a slow network
		s.Latency, s.Jitter = time.Duration(r.IntN(10))*time.Millisecond, time.Duration(1+r.IntN(10))*time.Millisecond
	case 1:
		s.Loss = r.IntN(30)
	}
	s.Second = r.IntN(4) == 0
	window, stretch := time.Second+time.Duration(r.IntN(3000))*time.Millisecond, time.Duration(1)
	if r.IntN(40) == 0 { // long enough for a guest to be given up
		window, stretch = core.LostAfter+window, 5
		s.drawLoss(r)
	}
	at := quiet
	for range 1 + r.IntN(maxFault)*r.IntN(maxFault)/(maxFault-1) {
		if r.IntN(2) == 0 { // soon after the last one
			at += time.Duration(r.IntN(700)) * time.Millisecond
		} else {
			at = quiet + time.Duration(r.Int64N(int64(window)))
		}
		if at < quiet+window {
			f := s.drawFault(r, at)
			f.For *= stretch
			s.Faults = append(s.Faults, f)
			if f.Kind == AskEnd && r.IntN(2) == 0 { // by chance alone it is seldom protected anew
				s.Faults = append(s.Faults, Fault{Kind: AskBegin, At: at + time.Duration(1+r.IntN(700))*time.Millisecond, Target: f.Target, VM: f.VM})
			}
		}
	}
	if s.Seasoned = r.IntN(4) == 0; s.Seasoned && r.IntN(2) == 0 {
		s.drawTakeover(r, quiet+time.Duration(r.Int64N(int64(window))))
	}
	if r.IntN(15) == 0 {
		s.drawReplaced(r, quiet+time.Duration(r.IntN(300))*time.Millisecond)
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	s.Calm = quiet + window + time.Duration(r.IntN(1000))*time.Millisecond
	return s
}

func (s *Schedule) drawVMs(r *rand.Rand) {
	for range []int{1, 1, 1, 2, 2, 3}[r.IntN(6)] {
		g := VM{Primary: r.IntN(s.Hosts), Pinned: -1, Mode: core.Buffer, Epoch: time.Duration(80+r.IntN(120)) * time.Millisecond}
		if r.IntN(3) == 0 {
			g.Mode = core.Checkpoint
		}
		if r.IntN(10) == 0 {
			g.Pinned = (g.Primary + 1 + r.IntN(s.Hosts-1)) % s.Hosts
		}
		g.Anew = r.IntN(4) == 0
		s.VMs = append(s.VMs, g)
	}
}

// drawLoss has a guest that is to be started anew lose its backup, and then the cluster its
// primary, for as long as it takes to be given up.
func (s *Schedule) drawLoss(r *rand.Rand) {
	g := r.IntN(len(s.VMs))
	s.VMs[g].Anew = true
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+r.IntN(hi-lo)) * time.Millisecond }
	alone := []FaultKind{CutOff, Mute, StandStill, PowerOff, KillHamgr}
	s.Faults = append(s.Faults,
		Fault{Kind: NoMemory, At: quiet, For: ms(8000, 14000), Target: Target(r.IntN(s.Hosts)), VM: g},
		Fault{Kind: PowerOff, At: quiet + ms(0, 500), For: ms(500, 14000), Target: Backup + Target(g), VM: g},
		Fault{Kind: alone[r.IntN(len(alone))], At: quiet + ms(0, 3000), For: ms(8000, 14000), Target: Primary + Target(g), VM: g})
}

// drawTakeover attacks what a lease is to keep apart, a primary whose output is not held and
// its successor, around the time at. By chance alone what it takes is seldom: two or three
// faults within a tenth of a second of each other.
func (s *Schedule) drawTakeover(r *rand.Rand, at time.Duration) {
	g := r.IntN(len(s.VMs))
	s.VMs[g].Mode = core.Checkpoint
	primary, manager := Primary+Target(g), Target(r.IntN(s.Managers))
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+r.IntN(hi-lo)) * time.Millisecond }
	add := func(at, length time.Duration, of, other Target, kinds ...FaultKind) {
		s.Faults = append(s.Faults, Fault{Kind: kinds[r.IntN(len(kinds))], At: at, For: length, Target: of, Peer: other, VM: g})
	}
	switch r.IntN(4) {
	case 0: // it is back for a moment while something happens to the leader
		away := ms(200, 900)
		add(at, away, primary, Leader, StandStill, CutOff, Mute, CutPair)
		add(at+ms(0, 900), ms(50, 700), Leader, primary, DiskStall, KillHamgr, StandStill, CutOff, DeafTo)
		add(at+away+ms(20, 300), ms(100, 700), primary, Leader, StandStill, CutOff, DeafTo, Deaf)
	case 1: // it is back while the leader waits for its disk with the takeover
		away := ms(480, 700)
		add(at, away, primary, Leader, StandStill, CutOff, Mute)
		add(at+ms(400, 600), ms(100, 400), Leader, primary, DiskStall)
		add(at+away+ms(20, 200), ms(200, 700), primary, Leader, StandStill, CutOff)
	case 2: // it falls silent with the leader, and the next leader has not heard it for long
		s.VMs[g].Primary, s.VMs[g].Pinned = s.Hosts-1, -1
		add(max(quiet, at-ms(200, 600)), ms(700, 1500), manager, primary, DeafTo, CutPair)
		add(at, ms(300, 1000), Leader, primary, KillHamgr, StandStill, CutOff, PowerOff)
		add(at+ms(0, 150)-50*time.Millisecond, ms(200, 1000), primary, Leader, StandStill, CutOff)
	case 3: // its QEMU goes on when it has been given up
		add(at, ms(950, 1350), primary, Leader, HangQEMU)
		add(at+ms(800, 1050), ms(200, 800), primary, Leader, StandStill, CutOff, Deaf, Deaf)
	}
}

// drawReplaced attacks what a lease is worth while the managers change: two of three are
// replaced, one after the other. Then the leader's disk stands still, and the network between
// the new managers and the others, on whose side the primary is. It has perhaps not heard of
// any change.
func (s *Schedule) drawReplaced(r *rand.Rand, at time.Duration) {
	s.Hosts, s.Managers = 5, 3
	h := []Target{0, 1, 2}
	r.Shuffle(3, func(i, j int) { h[i], h[j] = h[j], h[i] })
	s.VMs = []VM{{Primary: int(h[0]), Pinned: 3 + r.IntN(2), Mode: core.Checkpoint, Epoch: 100 * time.Millisecond}}
	s.Faults = slices.DeleteFunc(s.Faults, func(f Fault) bool {
		return r.IntN(2) == 0 || f.VM > 0 || f.Target.of(1) || f.Target.of(2) || f.Peer.of(1) || f.Peer.of(2)
	})
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+r.IntN(hi-lo)) * time.Millisecond }
	if r.IntN(2) == 0 {
		s.Faults = append(s.Faults, Fault{Kind: DiskStall, At: at, For: ms(1000, 3000), Target: h[0]})
	}
	for _, f := range []Fault{{Kind: AskManager, Target: 3}, {Kind: AskManager, Target: 4}, {Kind: AskDismiss, Target: h[0]}, {Kind: AskDismiss, Target: h[1]}} {
		at += ms(50, 250)
		f.At = at
		s.Faults = append(s.Faults, f)
	}
	at += ms(50, 300)
	s.Faults = append(s.Faults, Fault{Kind: DiskStall, At: at, For: ms(600, 2000), Target: Leader})
	length := ms(600, 2000)
	for _, old := range h {
		for _, new := range []Target{3, 4} {
			s.Faults = append(s.Faults, Fault{Kind: CutPair, At: at + ms(0, 50), For: length, Target: old, Peer: new})
		}
	}
}

func (s *Schedule) drawFault(r *rand.Rand, at time.Duration) Fault {
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	n, i := r.IntN(total), 0
	for n >= weights[i].weight {
		n -= weights[i].weight
		i++
	}
	f := Fault{Kind: weights[i].kind, At: at, Target: s.drawTarget(r), Peer: s.drawTarget(r), VM: r.IntN(len(s.VMs))}
	if longest := weights[i].longest; longest > 0 { // short ones as often as long ones
		f.For = longest >> r.IntN(6)
		f.For = max(shortest, f.For/2+time.Duration(r.Int64N(int64(f.For/2))))
	}
	if f.Kind == ClockJump {
		f.Jump = time.Duration(r.IntN(40_000)-20_000) * time.Millisecond >> r.IntN(6)
	}
	return f
}

// drawTarget prefers hosts that matter.
func (s *Schedule) drawTarget(r *rand.Rand) Target {
	switch g := Target(r.IntN(len(s.VMs))); r.IntN(8) {
	case 0, 1, 2:
		return Primary + g
	case 3, 4:
		return Backup + g
	case 5:
		return Leader
	}
	return Target(r.IntN(s.Hosts))
}
