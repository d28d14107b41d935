package input

import (
	"net"

	"github.com/hamgr/hamgr/bufferqdisc/internal/inject"
	"github.com/vishvananda/netlink"
)

// faults are of the netlink calls of both hosts.
type faults struct{ inject.Fault }

func (f *faults) dial() (kernel, error) {
	h, err := dial()
	return &faulty{h, f}, err
}

type faulty struct {
	kernel
	*faults
}

func (f *faulty) LinkByName(n string) (netlink.Link, error) {
	return inject.Call(&f.Fault, "LinkByName", func() (netlink.Link, error) { return f.kernel.LinkByName(n) })
}
func (f *faulty) LinkByIndex(i int) (netlink.Link, error) {
	return inject.Call(&f.Fault, "LinkByIndex", func() (netlink.Link, error) { return f.kernel.LinkByIndex(i) })
}
func (f *faulty) LinkList() ([]netlink.Link, error) {
	return inject.Call(&f.Fault, "LinkList", f.kernel.LinkList)
}
func (f *faulty) LinkGetProtinfo(l netlink.Link) (netlink.Protinfo, error) {
	return inject.Call(&f.Fault, "LinkGetProtinfo", func() (netlink.Protinfo, error) { return f.kernel.LinkGetProtinfo(l) })
}
func (f *faulty) LinkAdd(l netlink.Link) error {
	return f.Do("LinkAdd", func() error { return f.kernel.LinkAdd(l) })
}
func (f *faulty) LinkDel(l netlink.Link) error {
	return f.Do("LinkDel", func() error { return f.kernel.LinkDel(l) })
}
func (f *faulty) LinkSetUp(l netlink.Link) error {
	return f.Do("LinkSetUp", func() error { return f.kernel.LinkSetUp(l) })
}
func (f *faulty) LinkSetTxQLen(l netlink.Link, n int) error {
	return f.Do("LinkSetTxQLen", func() error { return f.kernel.LinkSetTxQLen(l, n) })
}
func (f *faulty) LinkSetIP6AddrGenMode(l netlink.Link, mode int) error {
	return f.Do("LinkSetIP6AddrGenMode", func() error { return f.kernel.LinkSetIP6AddrGenMode(l, mode) })
}
func (f *faulty) QdiscList(l netlink.Link) ([]netlink.Qdisc, error) {
	return inject.Call(&f.Fault, "QdiscList", func() ([]netlink.Qdisc, error) { return f.kernel.QdiscList(l) })
}
func (f *faulty) QdiscAdd(q netlink.Qdisc) error {
	return f.Do("QdiscAdd", func() error { return f.kernel.QdiscAdd(q) })
}
func (f *faulty) QdiscDel(q netlink.Qdisc) error {
	return f.Do("QdiscDel", func() error { return f.kernel.QdiscDel(q) })
}
func (f *faulty) FilterList(l netlink.Link, parent uint32) ([]netlink.Filter, error) {
	return inject.Call(&f.Fault, "FilterList", func() ([]netlink.Filter, error) { return f.kernel.FilterList(l, parent) })
}
func (f *faulty) FilterReplace(x netlink.Filter) error {
	return f.Do("FilterReplace", func() error { return f.kernel.FilterReplace(x) })
}
func (f *faulty) FilterDel(x netlink.Filter) error {
	return f.Do("FilterDel", func() error { return f.kernel.FilterDel(x) })
}
func (f *faulty) RouteGet(to net.IP) ([]netlink.Route, error) {
	return inject.Call(&f.Fault, "RouteGet", func() ([]netlink.Route, error) { return f.kernel.RouteGet(to) })
}
func (f *faulty) NeighSet(n *netlink.Neigh) error {
	return f.Do("NeighSet", func() error { return f.kernel.NeighSet(n) })
}
