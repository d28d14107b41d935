package input

import (
	"net"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
)

// kernel is what the handler asks of the kernel by rtnetlink, as netlink.Handle has it:
// one method, one call that can fail.
type kernel interface {
	hook.Netlink
	LinkList() ([]netlink.Link, error)
	LinkAdd(netlink.Link) error
	LinkDel(netlink.Link) error
	LinkSetUp(netlink.Link) error
	LinkSetTxQLen(netlink.Link, int) error
	LinkGetProtinfo(netlink.Link) (netlink.Protinfo, error)
	NeighSet(*netlink.Neigh) error
	RouteGet(net.IP) ([]netlink.Route, error)
	Delete()
}

// dialer opens one.
type dialer func() (kernel, error)

func dial() (kernel, error) {
	h, err := hook.Handle()
	if err != nil {
		return nil, err
	}
	return h, nil
}

// open is dial if d is nil.
func (d dialer) open() (kernel, error) {
	if d == nil {
		d = dial
	}
	return d()
}
