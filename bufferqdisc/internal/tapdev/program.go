package tapdev

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
)

// Offsets and values of include/uapi/linux/bpf.h and pkt_cls.h.
const (
	skbMark  = 8 // struct __sk_buff
	actShot  = 2 // TC_ACT_SHOT
	fIngress = 1 // BPF_F_INGRESS
)

// NewMark is for HandBack: what packets that may pass carry from our device to the tap. It is
// beside the packet, not in it: what a guest writes into its tap has mark 0, always.
// It is random, so that nobody else's packets pass here.
func NewMark() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.NativeEndian.Uint32(b[:]) | 1
}

// HandBack is for a Device's ingress: it marks everything and hands it to another device as
// if that had received it, and drops what comes after the deadline: this process may be
// stopped at any packet, and go on when the guest is another host's. Deadline (boottime) and
// late, which counts what was dropped, are offsets in the value of the one map.
func HandBack(ifindex int, mark uint32, values int, deadline, late int16) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, values, 0),
		asm.FnKtimeGetBootNs.Call(),
		asm.LoadMem(asm.R1, asm.R7, deadline, asm.DWord),
		asm.JLT.Reg(asm.R0, asm.R1, "in time"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, late),
		asm.Mov.Imm(asm.R0, actShot),
		asm.Return(),
		asm.Mov.Imm32(asm.R2, int32(mark)).WithSymbol("in time"),
		asm.StoreMem(asm.R6, skbMark, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, fIngress),
		asm.FnRedirect.Call(),
		asm.Return(),
	}
}
