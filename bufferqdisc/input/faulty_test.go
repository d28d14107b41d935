package input

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errInjected is what a broken call says.
var errInjected = fmt.Errorf("injected: %w", unix.ENOBUFS)

// faults counts the netlink calls of both hosts and breaks one, or all from one on.
type faults struct {
	at     int  // the call that fails, counted from 1
	on     bool // and all after it
	doesIt bool // it fails after it did its work: the answer was lost
	calls  int
	failed string // what the first broken call was
}

func (f *faults) dial() (kernel, error) {
	h, err := dial()
	return &faulty{h, f}, err
}

func try[T any](f *faults, what string, call func() (T, error)) (v T, err error) {
	if f.calls++; f.calls != f.at && !(f.on && f.calls > f.at) {
		return call()
	}
	if f.failed == "" {
		f.failed = what
	}
	if f.doesIt {
		call()
	}
	return v, errInjected
}

func (f *faults) do(what string, call func() error) error {
	_, err := try(f, what, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

type faulty struct {
	kernel
	*faults
}

func (f *faulty) LinkByName(n string) (netlink.Link, error) {
	return try(f.faults, "LinkByName", func() (netlink.Link, error) { return f.kernel.LinkByName(n) })
}
func (f *faulty) LinkByIndex(i int) (netlink.Link, error) {
	return try(f.faults, "LinkByIndex", func() (netlink.Link, error) { return f.kernel.LinkByIndex(i) })
}
func (f *faulty) LinkList() ([]netlink.Link, error) {
	return try(f.faults, "LinkList", f.kernel.LinkList)
}
func (f *faulty) LinkGetProtinfo(l netlink.Link) (netlink.Protinfo, error) {
	return try(f.faults, "LinkGetProtinfo", func() (netlink.Protinfo, error) { return f.kernel.LinkGetProtinfo(l) })
}
func (f *faulty) LinkAdd(l netlink.Link) error {
	return f.do("LinkAdd", func() error { return f.kernel.LinkAdd(l) })
}
func (f *faulty) LinkDel(l netlink.Link) error {
	return f.do("LinkDel", func() error { return f.kernel.LinkDel(l) })
}
func (f *faulty) LinkSetUp(l netlink.Link) error {
	return f.do("LinkSetUp", func() error { return f.kernel.LinkSetUp(l) })
}
func (f *faulty) LinkSetTxQLen(l netlink.Link, n int) error {
	return f.do("LinkSetTxQLen", func() error { return f.kernel.LinkSetTxQLen(l, n) })
}
func (f *faulty) LinkSetIP6AddrGenMode(l netlink.Link, mode int) error {
	return f.do("LinkSetIP6AddrGenMode", func() error { return f.kernel.LinkSetIP6AddrGenMode(l, mode) })
}
func (f *faulty) QdiscList(l netlink.Link) ([]netlink.Qdisc, error) {
	return try(f.faults, "QdiscList", func() ([]netlink.Qdisc, error) { return f.kernel.QdiscList(l) })
}
func (f *faulty) QdiscAdd(q netlink.Qdisc) error {
	return f.do("QdiscAdd", func() error { return f.kernel.QdiscAdd(q) })
}
func (f *faulty) QdiscDel(q netlink.Qdisc) error {
	return f.do("QdiscDel", func() error { return f.kernel.QdiscDel(q) })
}
func (f *faulty) FilterList(l netlink.Link, parent uint32) ([]netlink.Filter, error) {
	return try(f.faults, "FilterList", func() ([]netlink.Filter, error) { return f.kernel.FilterList(l, parent) })
}
func (f *faulty) FilterReplace(x netlink.Filter) error {
	return f.do("FilterReplace", func() error { return f.kernel.FilterReplace(x) })
}
func (f *faulty) FilterDel(x netlink.Filter) error {
	return f.do("FilterDel", func() error { return f.kernel.FilterDel(x) })
}
func (f *faulty) RouteGet(to net.IP) ([]netlink.Route, error) {
	return try(f.faults, "RouteGet", func() ([]netlink.Route, error) { return f.kernel.RouteGet(to) })
}
func (f *faulty) NeighSet(n *netlink.Neigh) error {
	return f.do("NeighSet", func() error { return f.kernel.NeighSet(n) })
}
