package bufferqdisc

import (
	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/hamgr/hamgr/bufferqdisc/internal/inject"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// faulty is a Netlink of which one call, or all from one on, fail.
type faulty struct {
	hook.Kernel
	inject.Fault
}

func (f *faulty) LinkByName(n string) (netlink.Link, error) {
	return inject.Call(&f.Fault, "LinkByName", func() (netlink.Link, error) { return f.Kernel.LinkByName(n) })
}
func (f *faulty) LinkByIndex(i int) (netlink.Link, error) {
	return inject.Call(&f.Fault, "LinkByIndex", func() (netlink.Link, error) { return f.Kernel.LinkByIndex(i) })
}
func (f *faulty) LinkAdd(l netlink.Link) error {
	return f.Do("LinkAdd", func() error { return f.Kernel.LinkAdd(l) })
}
func (f *faulty) LinkDel(l netlink.Link) error {
	return f.Do("LinkDel", func() error { return f.Kernel.LinkDel(l) })
}
func (f *faulty) LinkSetUp(l netlink.Link) error {
	return f.Do("LinkSetUp", func() error { return f.Kernel.LinkSetUp(l) })
}
func (f *faulty) LinkSetTxQLen(l netlink.Link, n int) error {
	return f.Do("LinkSetTxQLen", func() error { return f.Kernel.LinkSetTxQLen(l, n) })
}
func (f *faulty) QdiscList(l netlink.Link) ([]netlink.Qdisc, error) {
	return inject.Call(&f.Fault, "QdiscList", func() ([]netlink.Qdisc, error) { return f.Kernel.QdiscList(l) })
}
func (f *faulty) QdiscAdd(q netlink.Qdisc) error {
	return f.Do("QdiscAdd", func() error { return f.Kernel.QdiscAdd(q) })
}
func (f *faulty) QdiscReplace(q netlink.Qdisc) error {
	return f.Do("QdiscReplace", func() error { return f.Kernel.QdiscReplace(q) })
}
func (f *faulty) QdiscDel(q netlink.Qdisc) error {
	return f.Do("QdiscDel", func() error { return f.Kernel.QdiscDel(q) })
}
func (f *faulty) FilterList(l netlink.Link, p uint32) ([]netlink.Filter, error) {
	return inject.Call(&f.Fault, "FilterList", func() ([]netlink.Filter, error) { return f.Kernel.FilterList(l, p) })
}
func (f *faulty) FilterAdd(x netlink.Filter) error {
	return f.Do("FilterAdd", func() error { return f.Kernel.FilterAdd(x) })
}
func (f *faulty) FilterReplace(x netlink.Filter) error {
	return f.Do("FilterReplace", func() error { return f.Kernel.FilterReplace(x) })
}
func (f *faulty) FilterDel(x netlink.Filter) error {
	return f.Do("FilterDel", func() error { return f.Kernel.FilterDel(x) })
}
func (f *faulty) Execute(r *nl.NetlinkRequest) error {
	return f.Do("Execute", func() error { return f.Kernel.Execute(r) })
}
func (f *faulty) Watch() (*hook.Watch, error) { return inject.Call(&f.Fault, "Watch", f.Kernel.Watch) }
func (f *faulty) LinkSetIP6AddrGenMode(l netlink.Link, m int) error {
	return f.Do("LinkSetIP6AddrGenMode", func() error { return f.Kernel.LinkSetIP6AddrGenMode(l, m) })
}
func (f *faulty) LinkList() ([]netlink.Link, error) {
	return inject.Call(&f.Fault, "LinkList", f.Kernel.LinkList)
}
