package tapnet

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sink counts what arrives outside, and drops it, at the least cost there is.
type sink struct {
	values *ebpf.Map
	prog   *ebpf.Program
	page   []byte
}

// seen is in memory that the kernel writes.
type seen struct {
	packets atomic.Uint64
	last    atomic.Uint64 // when, CLOCK_MONOTONIC, nanoseconds
}

func (s *sink) seen() *seen { return (*seen)(unsafe.Pointer(unsafe.SliceData(s.page))) }

// newSink is to be called in the outside's namespace.
func newSink() (s *sink, err error) {
	s = &sink{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("the packets' counter: %w", err), s.close())
		}
	}()
	s.values, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(seen{})), MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		return s, err
	}
	if s.page, err = unix.Mmap(s.values.FD(), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return s, err
	}
	s.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.LoadMapValue(asm.R7, s.values.FD(), 0),
		asm.StoreMem(asm.R7, int16(unsafe.Offsetof(seen{}.last)), asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R7, asm.R1, asm.DWord, int16(unsafe.Offsetof(seen{}.packets))),
		asm.Mov.Imm(asm.R0, 2), // TC_ACT_SHOT
		asm.Return(),
	}})
	if err != nil {
		return s, err
	}
	return s, s.attach()
}

func (s *sink) attach() error {
	l, err := netlink.LinkByName("o1")
	if err != nil {
		return err
	}
	at := l.Attrs().Index
	err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: at, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
	if err != nil {
		return err
	}
	f := netlink.FilterAttrs{LinkIndex: at, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: 1, Handle: 1}
	return errors.Join(netlink.FilterAdd(&netlink.BpfFilter{FilterAttrs: f, Fd: s.prog.FD(), Name: "sink", DirectAction: true}), netlink.LinkSetUp(l))
}

func (s *sink) close() (err error) {
	if s.page != nil {
		err = unix.Munmap(s.page)
	}
	return errors.Join(err, s.prog.Close(), s.values.Close())
}
