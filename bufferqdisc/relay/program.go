package relay

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

const (
	skbLen  = 0 // offset of len in struct __sk_buff
	skbMark = 8 // offset of mark in struct __sk_buff (include/uapi/linux/bpf.h)
	actOK   = 0 // TC_ACT_OK (include/uapi/linux/pkt_cls.h)
	actShot = 2 // TC_ACT_SHOT
)

// holdProgram redirects what is not marked to the device and counts it, or drops it over a
// limit; what is marked loses its mark, which means nothing to the host's own rules, and
// passes.
func holdProgram(ifindex int, mark uint32, meter int) asm.Instructions {
	room := func(in, out, limit int16, more ...asm.Instruction) asm.Instructions {
		ins := asm.Instructions{
			asm.LoadMem(asm.R1, asm.R7, in, asm.DWord),
			asm.LoadMem(asm.R2, asm.R7, out, asm.DWord),
			asm.Sub.Reg(asm.R1, asm.R2),
		}
		return append(append(ins, more...),
			asm.LoadMem(asm.R2, asm.R7, limit, asm.DWord),
			asm.JGT.Reg(asm.R1, asm.R2, "drop"))
	}
	count := func(packets, bytes int16) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Imm(asm.R1, 1),
			asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, packets),
			asm.AddAtomic.Mem(asm.R7, asm.R8, asm.DWord, bytes),
		}
	}
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, skbMark, asm.Word),
		asm.JEq.Imm32(asm.R2, int32(mark), "pass"),
		asm.LoadMapValue(asm.R7, meter, 0),
		asm.LoadMem(asm.R8, asm.R6, skbLen, asm.Word),
	}
	ins = append(ins, room(atIn, atOut, atMaxPackets, asm.Add.Imm(asm.R1, 1))...)
	ins = append(ins, room(atInBytes, atOutBytes, atMaxBytes, asm.Add.Reg(asm.R1, asm.R8))...)
	ins = append(ins, count(atIn, atInBytes)...)
	ins = append(ins,
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	)
	drop := count(atDropped, atDroppedBytes)
	drop[0] = drop[0].WithSymbol("drop")
	ins = append(ins, drop...)
	return append(ins,
		asm.Mov.Imm(asm.R0, actShot),
		asm.Return(),
		asm.Mov.Imm(asm.R2, 0).WithSymbol("pass"),
		asm.StoreMem(asm.R6, skbMark, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R0, actOK),
		asm.Return(),
	)
}

// dropProgram lets nothing pass, marked or not.
func dropProgram() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, actShot), asm.Return()}
}

// programs are loaded at Setup, so that Hold and Abandon cannot fail for want of memory.
type programs struct{ hold, release, drop *ebpf.Program }

func loadPrograms(tap, hold, meter int) (p programs, err error) {
	mark := tapdev.NewMark()
	for _, l := range []struct {
		to  **ebpf.Program
		ins asm.Instructions
	}{
		{&p.hold, holdProgram(hold, mark, meter)},
		{&p.release, tapdev.HandBack(tap, mark, meter, atDeadline, atLate)},
		{&p.drop, dropProgram()},
	} {
		*l.to, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: l.ins, License: "Apache-2.0"})
		if err != nil {
			return p, errors.Join(fmt.Errorf("load a BPF program (needs CAP_BPF and a kernel with cls_bpf): %w", err), p.close())
		}
	}
	return p, nil
}

func (p programs) close() error {
	return errors.Join(p.hold.Close(), p.release.Close(), p.drop.Close()) // nil programs close
}
