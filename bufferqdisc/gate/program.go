package gate

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

const (
	skbLen    = 0  // offset of len in struct __sk_buff (include/uapi/linux/bpf.h)
	skbMark   = 8  // offset of mark in it
	actUnspec = -1 // TC_ACT_UNSPEC (include/uapi/linux/pkt_cls.h): on to the next filter
	actShot   = 2  // TC_ACT_SHOT

	// waitMost is how long after the deadline packets still wait. In a process that lives the
	// deadline of a closed gate is never long past; of one that has died, somebody else's
	// device may have the number of ours some day.
	waitMost = 60 * 1000 * 1000 * 1000 // nanoseconds

	// limitBytes may wait for a deadline, of all NICs of a guest.
	limitBytes = 32 << 20
)

// shared is the value of the programs' one map, in memory that they and we share. What
// waits is what came in without what went out again.
type shared struct {
	// The programs'.
	in, inBytes           atomic.Uint64
	dropped, droppedBytes atomic.Uint64 // without room, or long late
	late                  atomic.Uint64 // not handed back: the deadline was over
	_                     [24]byte      // what follows is written by another CPU
	// Ours, but that the programs set waiting.
	deadline      atomic.Uint64 // CLOCK_BOOTTIME, nanoseconds
	out, outBytes atomic.Uint64
	waiting       atomic.Uint64 // 1: what comes waits, behind what does
}

const (
	atIn           = int16(unsafe.Offsetof(shared{}.in))
	atInBytes      = int16(unsafe.Offsetof(shared{}.inBytes))
	atDropped      = int16(unsafe.Offsetof(shared{}.dropped))
	atDroppedBytes = int16(unsafe.Offsetof(shared{}.droppedBytes))
	atLate         = int16(unsafe.Offsetof(shared{}.late))
	atDeadline     = int16(unsafe.Offsetof(shared{}.deadline))
	atOut          = int16(unsafe.Offsetof(shared{}.out))
	atOutBytes     = int16(unsafe.Offsetof(shared{}.outBytes))
	atWaiting      = int16(unsafe.Offsetof(shared{}.waiting))
)

// gateProgram redirects to a device from the deadline on, and drops what there is no room
// for, or comes long after it. In time, what is marked passes although others wait: what our own TAP hands back loses
// the mark, which means nothing to the host's own rules; a relay's bears another.
func gateProgram(ifindex int, mark uint32, values int) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, values, 0),
		asm.LoadMem(asm.R8, asm.R6, skbLen, asm.Word),
		asm.LoadMem(asm.R9, asm.R6, skbMark, asm.Word),
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMem(asm.R1, asm.R7, atDeadline, asm.DWord),
		asm.JGE.Reg(asm.R0, asm.R1, "late"), // R0: now
		asm.JNE.Imm(asm.R9, 0, "marked"),
		asm.LoadMem(asm.R1, asm.R7, atWaiting, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "pass"),
		asm.Ja.Label("hold"),

		asm.Sub.Reg(asm.R0, asm.R1).WithSymbol("late"),
		asm.LoadImm(asm.R1, waitMost, asm.DWord),
		asm.JGT.Reg(asm.R0, asm.R1, "drop"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreMem(asm.R7, atWaiting, asm.R1, asm.DWord),

		// Out first: it must not pass what is read of in, which only grows.
		asm.LoadMem(asm.R2, asm.R7, atOut, asm.DWord).WithSymbol("hold"),
		asm.LoadMem(asm.R1, asm.R7, atIn, asm.DWord),
		asm.Sub.Reg(asm.R1, asm.R2),
		asm.JGE.Imm(asm.R1, tapdev.MaxPackets, "drop"),
		asm.LoadMem(asm.R2, asm.R7, atOutBytes, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, atInBytes, asm.DWord),
		asm.Sub.Reg(asm.R1, asm.R2),
		asm.Add.Reg(asm.R1, asm.R8),
		asm.JGT.Imm(asm.R1, limitBytes, "drop"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, atIn),
		asm.AddAtomic.Mem(asm.R7, asm.R8, asm.DWord, atInBytes),
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),

		asm.Mov.Imm(asm.R1, 1).WithSymbol("drop"),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, atDropped),
		asm.AddAtomic.Mem(asm.R7, asm.R8, asm.DWord, atDroppedBytes),
		asm.Mov.Imm(asm.R0, actShot),
		asm.Return(),

		asm.JNE.Imm32(asm.R9, int32(mark), "pass").WithSymbol("marked"),
		asm.Mov.Imm(asm.R2, 0),
		asm.StoreMem(asm.R6, skbMark, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R0, actUnspec).WithSymbol("pass"),
		asm.Return(),
	}
}

// load has the kernel take a program. It keeps program and map for as long as a filter
// uses them; what is returned is ours to close.
func load(ins asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: ins, License: "Apache-2.0"})
	if err != nil {
		return nil, fmt.Errorf("load a BPF program (needs CAP_BPF, Linux 5.8 and cls_bpf): %w", err)
	}
	return p, nil
}

// programs are of one tap: at the gate, and at our TAP.
type programs struct{ gate, back *ebpf.Program }

func loadPrograms(tap, wait, values int) (p programs, err error) {
	mark := tapdev.NewMark()
	if p.gate, err = load(gateProgram(wait, mark, values)); err == nil {
		p.back, err = load(tapdev.HandBack(tap, mark, values, atDeadline, atLate))
	}
	return p, err
}

func (p programs) close() error { return errors.Join(p.gate.Close(), p.back.Close()) } // nil ones close
