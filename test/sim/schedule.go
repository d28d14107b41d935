package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

// Schedule is one run: what there is, and what goes wrong when. Written as JSON it can be
// played again.
type Schedule struct {
	Seed     uint64        `json:"seed"` // of all chances in the run
	Salt     uint64        `json:"salt,omitempty"`
	Hosts    int           `json:"hosts"`
	Managers int           `json:"managers"` // the first so many hosts
	VMs      []VM          `json:"vms"`
	Latency  time.Duration `json:"latency_ns"` // of a message, at least
	Jitter   time.Duration `json:"jitter_ns"`  // and up to so much more
	Loss     int           `json:"loss_permille,omitempty"`
	Second   bool          `json:"second,omitempty"`   // heartbeats go by the guests' network too
	Seasoned bool          `json:"seasoned,omitempty"` // the hosts have known each other for long: their patience has adapted
	Faults   []Fault       `json:"faults"`
	Calm     time.Duration `json:"calm_ns"` // when all faults end
}

// Check says what is wrong with a schedule that was not drawn.
func (s Schedule) Check() error {
	switch {
	case s.Hosts < 2 || s.Hosts > maxHosts || s.Managers < 1 || s.Managers > s.Hosts:
		return fmt.Errorf("%d hosts, %d of them managers: there may be 2 to %d hosts", s.Hosts, s.Managers, maxHosts)
	case len(s.VMs) == 0 || len(s.VMs) > maxVMs:
		return fmt.Errorf("%d guests: there may be 1 to %d", len(s.VMs), maxVMs)
	case s.Latency < 0 || s.Jitter < 0 || s.Loss < 0 || s.Loss > 1000 || s.Calm < 0:
		return errors.New("a time or a loss that cannot be")
	}
	for i, g := range s.VMs {
		if g.Primary < 0 || g.Primary >= s.Hosts || g.Pinned < -1 || g.Pinned >= s.Hosts || g.Pinned == g.Primary || g.Epoch < time.Millisecond {
			return fmt.Errorf("guest %d: primary %d, backup %d, epochs of %v", i, g.Primary, g.Pinned, g.Epoch)
		}
	}
	for i, f := range s.Faults {
		if !s.has(f.Target) || f.Kind.betweenTwo() && !s.has(f.Peer) || f.VM < 0 || f.VM >= len(s.VMs) || f.At < 0 || f.For < 0 {
			return fmt.Errorf("fault %d: %+v names what there is not", i, f)
		}
	}
	return nil
}

// has says that there is such a host, or role.
func (s Schedule) has(t Target) bool {
	for g := range s.VMs {
		if t.of(g) {
			return true
		}
	}
	return t == Leader || t >= 0 && int(t) < s.Hosts
}

// VM is a guest that is protected from the beginning.
type VM struct {
	Primary int           `json:"primary"`        // host
	Pinned  int           `json:"pinned"`         // host, -1: any
	Anew    bool          `json:"anew,omitempty"` // it is started anew if all is lost
	Mode    core.Mode     `json:"mode"`
	Epoch   time.Duration `json:"epoch_ns"`
}

// Fault is one thing that goes wrong, or that an operator does.
type Fault struct {
	Kind   FaultKind     `json:"kind"`
	At     time.Duration `json:"at_ns"`
	For    time.Duration `json:"for_ns,omitempty"`
	Target Target        `json:"target"`
	Peer   Target        `json:"peer,omitempty"` // of a cut between two
	VM     int           `json:"vm,omitempty"`
	Jump   time.Duration `json:"jump_ns,omitempty"` // of a clock
}

// Target is a host, by number or by what it is at that moment.
type Target int

// The roles; those of guest i are Primary+i and Backup+i.
const (
	Leader  Target = 10
	Primary Target = 20
	Backup  Target = 30
)

// FaultKind names a kind of fault.
type FaultKind string

// The kinds of faults.
const (
	KillHamgr  FaultKind = "kill-hamgr"   // for: until it is started again
	StopHamgr  FaultKind = "stop-hamgr"   // by the operator, for an upgrade say; for: likewise
	PowerOff   FaultKind = "power-off"    // for: until power is back
	KillQEMU   FaultKind = "kill-qemu"    // of a guest's primary
	HangQEMU   FaultKind = "hang-qemu"    // of a guest's primary
	StandStill FaultKind = "stand-still"  // hamgr gets no time
	CutOff     FaultKind = "cut-off"      // management network, one host from all
	CutPair    FaultKind = "cut-pair"     // target and peer from each other
	DeafTo     FaultKind = "deaf-to"      // target does not hear peer
	Deaf       FaultKind = "deaf"         // target hears nobody
	Mute       FaultKind = "mute"         // nobody hears target
	GuestNet   FaultKind = "guest-net"    // target's guests are cut off
	Storm      FaultKind = "storm"        // messages are lost, late, doubled, in any order
	ClockJump  FaultKind = "clock-jump"   // of the wall clock
	DiskStall  FaultKind = "disk-stall"   // under Raft
	NoMemory   FaultKind = "no-memory"    // target takes no standby
	AskMode    FaultKind = "ask-mode"     // the operator wants the other mode
	AskMove    FaultKind = "ask-failover" // the operator wants a planned failover
	AskMoveNow FaultKind = "ask-failover-now"
	AskDrain   FaultKind = "ask-drain" // for: until it is undrained
	AskEnd     FaultKind = "ask-unprotect"
	AskBegin   FaultKind = "ask-protect"
	AskManager FaultKind = "ask-manager-add"
	AskDismiss FaultKind = "ask-manager-remove"
)

// aboutVM says that a fault of that kind has a guest.
func (k FaultKind) aboutVM() bool {
	switch k {
	case KillQEMU, HangQEMU, AskMode, AskMove, AskMoveNow, AskEnd, AskBegin:
		return true
	}
	return false
}

// betweenTwo says that it has a peer.
func (k FaultKind) betweenTwo() bool { return k == CutPair || k == DeafTo }

var weights = []struct {
	kind    FaultKind
	weight  int
	longest time.Duration // 0: it has no length
}{
	{KillHamgr, 10, 4 * time.Second}, {StopHamgr, 3, 2 * time.Second}, {PowerOff, 10, 5 * time.Second}, {KillQEMU, 8, 0}, {HangQEMU, 5, 4 * time.Second}, {StandStill, 14, 3 * time.Second},
	{CutOff, 10, 3 * time.Second}, {CutPair, 8, 3 * time.Second}, {DeafTo, 8, 3 * time.Second}, {Deaf, 5, 2 * time.Second},
	{Mute, 5, 2 * time.Second}, {GuestNet, 3, time.Second}, {Storm, 5, 2 * time.Second}, {ClockJump, 4, 0},
	{DiskStall, 6, 2 * time.Second}, {NoMemory, 3, 2 * time.Second}, {AskMode, 5, 0}, {AskMove, 4, 0}, {AskMoveNow, 2, 0}, {AskDrain, 3, 2 * time.Second}, {AskEnd, 2, 0}, {AskBegin, 2, 0},
	{AskManager, 5, 0}, {AskDismiss, 5, 0},
}

const (
	quiet    = 900 * time.Millisecond // the cluster finds together
	shortest = 20 * time.Millisecond
	maxFault = 12
)
