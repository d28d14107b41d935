package gate

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/hamgr/hamgr/bufferqdisc/internal/bpfmem"
)

const (
	skbLen    = 0  // offset of len in struct __sk_buff (include/uapi/linux/bpf.h)
	actUnspec = -1 // TC_ACT_UNSPEC (include/uapi/linux/pkt_cls.h): on to the next filter
	actShot   = 2  // TC_ACT_SHOT
)

// shared is the value of the program's one map, in memory that it and we share. The
// deadline is ours to write, the rest the program's.
type shared struct {
	deadline     atomic.Uint64 // CLOCK_BOOTTIME, nanoseconds
	dropped      atomic.Uint64
	droppedBytes atomic.Uint64
}

const (
	atDeadline     = unsafe.Offsetof(shared{}.deadline)
	atDropped      = unsafe.Offsetof(shared{}.dropped)
	atDroppedBytes = unsafe.Offsetof(shared{}.droppedBytes)
)

// instructions drop from the deadline on, and count what they drop.
func instructions(mapFD int) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, mapFD, 0),
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMem(asm.R1, asm.R7, int16(atDeadline), asm.DWord),
		asm.JLT.Reg(asm.R0, asm.R1, "pass"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, int16(atDropped)),
		asm.LoadMem(asm.R1, asm.R6, skbLen, asm.Word),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, int16(atDroppedBytes)),
		asm.Mov.Imm(asm.R0, actShot),
		asm.Return(),
		asm.Mov.Imm(asm.R0, actUnspec).WithSymbol("pass"),
		asm.Return(),
	}
}

// program is a loaded gate. The kernel keeps program and map for as long as a filter
// uses them; files and memory here are ours to close.
type program struct {
	values *bpfmem.Value[shared]
	prog   *ebpf.Program
}

func load() (p *program, err error) {
	p = &program{}
	defer func() {
		if err != nil {
			p.close()
			p, err = nil, fmt.Errorf("load a BPF program (needs CAP_BPF, Linux 5.8 and cls_bpf): %w", err)
		}
	}()
	if p.values, err = bpfmem.New[shared](); err != nil {
		return p, err
	}
	p.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, Instructions: instructions(p.values.FD()), License: "Apache-2.0",
	})
	return p, err
}

// shared is valid until close. A store to it is one store: no reader sees half of it.
func (p *program) shared() *shared { return p.values.Get() }

func (p *program) close() error {
	return errors.Join(p.prog.Close(), p.values.Close()) // nil ones close
}
