package relay

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// mark is on packets that may pass. A guest cannot set it: what comes from a tap has none.
	mark       = 0x48414d47
	skbMark    = 8 // offset of mark in struct __sk_buff (include/uapi/linux/bpf.h)
	tcContinue = -1
	fIngress   = 1 // BPF_F_INGRESS
	filterName = "hamgr"
	filterPrio = 1
)

// holdProgram redirects what is not marked to the device; what is, loses its mark and passes.
func holdProgram(ifindex int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, skbMark, asm.Word),
		asm.JEq.Imm32(asm.R2, mark, "pass"),
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R2, 0).WithSymbol("pass"),
		asm.StoreMem(asm.R1, skbMark, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R0, tcContinue),
		asm.Return(),
	}
}

// releaseProgram marks everything and hands it to the device as if it had received it.
func releaseProgram(ifindex int) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm32(asm.R2, mark),
		asm.StoreMem(asm.R1, skbMark, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, fIngress),
		asm.FnRedirect.Call(),
		asm.Return(),
	}
}

// attach puts a program on a device's ingress, in place of an earlier one of ours.
func attach(link netlink.Link, ins asm.Instructions) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: ins, License: "Apache-2.0"})
	if err != nil {
		return fmt.Errorf("load a BPF program (needs CAP_BPF and a kernel with cls_bpf): %w", err)
	}
	defer prog.Close()
	if err := addClsact(link); err != nil {
		return err
	}
	f := &netlink.BpfFilter{FilterAttrs: filterAttrs(link), Fd: prog.FD(), Name: filterName, DirectAction: true}
	if err := netlink.FilterReplace(f); err != nil {
		return fmt.Errorf("attach to %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func filterAttrs(link netlink.Link) netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS,
		Handle: 1, Protocol: unix.ETH_P_ALL, Priority: filterPrio,
	}
}

func addClsact(link netlink.Link) error {
	q := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(q); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact on %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// detach removes our filter, if it is there, and the clsact qdisc if nothing else uses it.
func detach(link netlink.Link) error {
	ours, others, err := filters(link)
	if err != nil || len(ours) == 0 {
		return err
	}
	for _, f := range ours {
		if err := netlink.FilterDel(f); err != nil {
			return fmt.Errorf("remove the filter from %s: %w", link.Attrs().Name, err)
		}
	}
	egress, err := netlink.FilterList(link, netlink.HANDLE_MIN_EGRESS)
	if err != nil || others+len(egress) > 0 {
		return err
	}
	return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
}

// filters lists our filters on a device's ingress and counts the others.
func filters(link netlink.Link) (ours []netlink.Filter, others int, err error) {
	all, err := netlink.FilterList(link, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return nil, 0, fmt.Errorf("filters of %s: %w", link.Attrs().Name, err)
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == filterName {
			ours = append(ours, f)
		} else {
			others++
		}
	}
	return ours, others, nil
}

// Clear takes our filter off these taps.
func Clear(taps []string) error {
	var errs []error
	for _, t := range taps {
		link, err := netlink.LinkByName(t)
		if err == nil {
			err = detach(link)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
