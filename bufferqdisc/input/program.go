package input

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Offsets and values of include/uapi/linux/bpf.h and pkt_cls.h.
const (
	skbMark  = 8   // struct __sk_buff
	skbGSO   = 176 // gso_size, octets of each piece, or 0
	actNext  = -1  // TC_ACT_UNSPEC: as if the filter were not there
	actShot  = 2   // TC_ACT_SHOT
	tunnelV6 = 1   // BPF_F_TUNINFO_IPV6
	noCsum   = 2   // BPF_F_ZERO_CSUM_TX, as RFC 7348 wants it over IPv4

	// struct bpf_tunnel_key up to tunnel_label: id, address (16), tos, ttl, ext, label.
	keySize    = 28
	keyAddress = 4
	keyTTL     = 21
	keyAt      = -32 // on the stack

	hops = 64
)

// copyProgram clones each packet to the tunnel, or before there are to be copies counts it
// only, counts what could not be cloned, and is otherwise not there, but for times in which
// packets go to the waiting device instead and are counted, before they are there: see
// holdProgram. What bears the mark came out of a tunnel of ours and was flooded back by a
// bridge that carries both networks: to copy it again would never end.
func copyProgram(tunnel, waiting, shared int, mark uint32) asm.Instructions {
	return append(asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, shared, 0),
		asm.LoadMem(asm.R2, asm.R1, skbMark, asm.Word),
		asm.JEq.Imm32(asm.R2, int32(mark), "next"),
		asm.LoadMem(asm.R2, asm.R7, int16(atCopies), asm.DWord),
		asm.JNE.Imm(asm.R2, 0, "copy"),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R2, asm.DWord, int16(atSkipped)),
		asm.LoadMem(asm.R1, asm.R6, skbGSO, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "next"),
		asm.AddAtomic.Mem(asm.R7, asm.R2, asm.DWord, int16(atLarge)),
		asm.Ja.Label("next"),
		asm.Mov.Imm(asm.R2, int32(tunnel)).WithSymbol("copy"),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnCloneRedirect.Call(),
		asm.JEq.Imm(asm.R0, 0, "copied"),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R2, asm.DWord, int16(atFailed)),
		asm.LoadMem(asm.R8, asm.R7, int16(atWait), asm.DWord).WithSymbol("copied"),
		asm.JEq.Imm(asm.R8, 0, "next"),
		asm.FnKtimeGetBootNs.Call(),
		asm.JGE.Reg(asm.R0, asm.R8, "next"),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R2, asm.DWord, int16(atHeld)),
		asm.Mov.Reg(asm.R1, asm.R6),
	}, holdProgram(waiting,
		asm.Mov.Imm(asm.R2, -1),
		asm.AddAtomic.Mem(asm.R7, asm.R2, asm.DWord, int16(atHeld)),
	)...)
}

// numberProgram gives each packet that a tunnel device sends the next number, as its VNI,
// and the backup's address, and counts the large ones. It drops what it cannot give them to.
func numberProgram(shared int, to netip.Addr, mark uint32) asm.Instructions {
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, shared, uint32(atNumbered)),
		asm.Mov.Imm(asm.R8, 1),
		fetchAdd(asm.R7, asm.R8),
		asm.Add.Imm(asm.R8, 1),
		asm.And.Imm(asm.R8, maxNumber),
		asm.LoadMem(asm.R1, asm.R6, skbGSO, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "small"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, int16(atLarge-atNumbered)),
		asm.Mov.Imm(asm.R1, 0).WithSymbol("small"),
	}
	for at := int16(keyAt); at < 0; at += 8 {
		ins = append(ins, asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord))
	}
	ins = append(ins, asm.StoreMem(asm.RFP, keyAt, asm.R8, asm.Word), asm.StoreImm(asm.RFP, keyAt+keyTTL, hops, asm.Byte))
	flags := int32(noCsum)
	if to.Is4() { // in the order of the host
		ip := to.As4()
		ins = append(ins, asm.StoreImm(asm.RFP, keyAt+keyAddress, int64(int32(binary.BigEndian.Uint32(ip[:]))), asm.Word))
	} else { // in the order of the network
		flags = tunnelV6
		ip := to.As16()
		for i := 0; i < len(ip); i += 4 {
			ins = append(ins, asm.StoreImm(asm.RFP, keyAt+keyAddress+int16(i), int64(int32(binary.NativeEndian.Uint32(ip[i:]))), asm.Word))
		}
	}
	return append(ins,
		asm.Mov.Imm32(asm.R2, int32(mark)),
		asm.StoreMem(asm.R6, skbMark, asm.R2, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, keyAt),
		asm.Mov.Imm(asm.R3, keySize),
		asm.Mov.Imm(asm.R4, flags),
		asm.FnSkbSetTunnelKey.Call(),
		asm.JEq.Imm(asm.R0, 0, "send"),
		asm.Mov.Imm(asm.R0, actShot),
		asm.Return(),
		asm.Mov.Imm(asm.R0, actNext).WithSymbol("send"),
		asm.Return(),
	)
}

// fetchAdd adds src to *dst and puts what was there before into src (Linux 5.12).
func fetchAdd(dst, src asm.Register) asm.Instruction {
	ins := asm.FetchAdd.Mem(dst, src, asm.DWord, 0)
	ins.Constant = 1 // BPF_FETCH; cilium/ebpf 0.22 writes only this and not what the opcode says
	return ins
}

// holdProgram has a packet wait: it goes to a device instead. When that is gone, and the
// process with it that would send it on, the packet passes, after what is to be done then:
// nobody's network is cut (I6).
func holdProgram(ifindex int, gone ...asm.Instruction) asm.Instructions {
	return slices.Concat(asm.Instructions{
		asm.Mov.Imm(asm.R2, int32(ifindex)),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnCloneRedirect.Call(),
		asm.JEq.Imm(asm.R0, 0, "waits"),
	}, gone, asm.Instructions{
		asm.Mov.Imm(asm.R0, actNext).WithSymbol("next"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, actShot).WithSymbol("waits"),
		asm.Return(),
	})
}

// passProgram does nothing.
func passProgram() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, actNext), asm.Return()}
}

// dropProgram lets nothing pass.
func dropProgram() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, actShot), asm.Return()}
}

func load(ins asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: ins, License: "Apache-2.0"})
	if err != nil {
		return nil, fmt.Errorf("load a BPF program (needs CAP_BPF, and Linux 5.12 with cls_bpf): %w", err)
	}
	return p, nil
}
