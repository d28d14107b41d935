package bufferqdisc

import (
	"fmt"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// errInjected is what a broken call says.
var errInjected = fmt.Errorf("injected: %w", unix.ENOBUFS)

// faulty is a Netlink of which one call, or all from one on, fail.
type faulty struct {
	hook.Kernel
	at     int  // the call that fails, counted from 1
	on     bool // and all after it
	doesIt bool // it fails after it did its work: the answer was lost
	calls  int
	failed string // what the first broken call was
}

func try[T any](f *faulty, what string, call func() (T, error)) (v T, err error) {
	f.calls++
	if f.calls != f.at && !(f.on && f.calls > f.at) {
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

func (f *faulty) do(what string, call func() error) error {
	_, err := try(f, what, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

func (f *faulty) LinkByName(n string) (netlink.Link, error) {
	return try(f, "LinkByName", func() (netlink.Link, error) { return f.Kernel.LinkByName(n) })
}
func (f *faulty) LinkByIndex(i int) (netlink.Link, error) {
	return try(f, "LinkByIndex", func() (netlink.Link, error) { return f.Kernel.LinkByIndex(i) })
}
func (f *faulty) LinkAdd(l netlink.Link) error {
	return f.do("LinkAdd", func() error { return f.Kernel.LinkAdd(l) })
}
func (f *faulty) LinkDel(l netlink.Link) error {
	return f.do("LinkDel", func() error { return f.Kernel.LinkDel(l) })
}
func (f *faulty) LinkSetUp(l netlink.Link) error {
	return f.do("LinkSetUp", func() error { return f.Kernel.LinkSetUp(l) })
}
func (f *faulty) LinkSetTxQLen(l netlink.Link, n int) error {
	return f.do("LinkSetTxQLen", func() error { return f.Kernel.LinkSetTxQLen(l, n) })
}
func (f *faulty) QdiscList(l netlink.Link) ([]netlink.Qdisc, error) {
	return try(f, "QdiscList", func() ([]netlink.Qdisc, error) { return f.Kernel.QdiscList(l) })
}
func (f *faulty) QdiscAdd(q netlink.Qdisc) error {
	return f.do("QdiscAdd", func() error { return f.Kernel.QdiscAdd(q) })
}
func (f *faulty) QdiscReplace(q netlink.Qdisc) error {
	return f.do("QdiscReplace", func() error { return f.Kernel.QdiscReplace(q) })
}
func (f *faulty) QdiscDel(q netlink.Qdisc) error {
	return f.do("QdiscDel", func() error { return f.Kernel.QdiscDel(q) })
}
func (f *faulty) FilterList(l netlink.Link, p uint32) ([]netlink.Filter, error) {
	return try(f, "FilterList", func() ([]netlink.Filter, error) { return f.Kernel.FilterList(l, p) })
}
func (f *faulty) FilterAdd(x netlink.Filter) error {
	return f.do("FilterAdd", func() error { return f.Kernel.FilterAdd(x) })
}
func (f *faulty) FilterReplace(x netlink.Filter) error {
	return f.do("FilterReplace", func() error { return f.Kernel.FilterReplace(x) })
}
func (f *faulty) FilterDel(x netlink.Filter) error {
	return f.do("FilterDel", func() error { return f.Kernel.FilterDel(x) })
}
func (f *faulty) Execute(r *nl.NetlinkRequest) error {
	return f.do("Execute", func() error { return f.Kernel.Execute(r) })
}
func (f *faulty) Watch() (*hook.Watch, error) { return try(f, "Watch", f.Kernel.Watch) }
func (f *faulty) LinkSetIP6AddrGenMode(l netlink.Link, m int) error {
	return f.do("LinkSetIP6AddrGenMode", func() error { return f.Kernel.LinkSetIP6AddrGenMode(l, m) })
}
func (f *faulty) LinkList() ([]netlink.Link, error) { return try(f, "LinkList", f.Kernel.LinkList) }
