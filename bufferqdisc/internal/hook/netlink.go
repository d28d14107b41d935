package hook

import (
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const socketTimeout = 2 * time.Second

// Netlink is what hooks are put in place with, as netlink.Handle has it: one method, one
// call that can fail.
type Netlink interface {
	LinkByName(string) (netlink.Link, error)
	LinkByIndex(int) (netlink.Link, error)
	LinkSetIP6AddrGenMode(netlink.Link, int) error
	QdiscList(netlink.Link) ([]netlink.Qdisc, error)
	QdiscAdd(netlink.Qdisc) error
	QdiscDel(netlink.Qdisc) error
	FilterList(netlink.Link, uint32) ([]netlink.Filter, error)
	FilterAdd(netlink.Filter) error
	FilterReplace(netlink.Filter) error
	FilterDel(netlink.Filter) error
}

// Kernel is all that a backend asks of the kernel by rtnetlink.
type Kernel interface {
	Netlink
	LinkList() ([]netlink.Link, error)
	LinkAdd(netlink.Link) error
	LinkDel(netlink.Link) error
	LinkSetUp(netlink.Link) error
	LinkSetTxQLen(netlink.Link, int) error
	QdiscReplace(netlink.Qdisc) error
	// Execute sends a request that the library has no method for.
	Execute(*nl.NetlinkRequest) error
	// Watch hears of changes from now on.
	Watch() (*Watch, error)
	// Delete closes it.
	Delete()
}

// Handle is netlink in the network namespace of the caller's thread, whichever thread
// uses it later. Close it with Delete.
func Handle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if err := h.SetSocketTimeout(socketTimeout); err != nil {
		h.Delete()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return h, nil
}

// Dial is Handle for a backend.
func Dial() (Kernel, error) {
	h, err := Handle()
	if err != nil {
		return nil, err
	}
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		h.Delete()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	k := &kernel{h, map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}
	tv := unix.NsecToTimeval(int64(socketTimeout))
	if err := errors.Join(s.SetSendTimeout(&tv), s.SetReceiveTimeout(&tv)); err != nil {
		k.Delete()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return k, nil
}

// kernel is the Kernel that is one.
type kernel struct {
	*netlink.Handle
	requests map[int]*nl.SocketHandle
}

func (k *kernel) Execute(req *nl.NetlinkRequest) error {
	req.Sockets = k.requests
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (k *kernel) Watch() (*Watch, error) { return newWatch() }

func (k *kernel) Delete() {
	k.requests[unix.NETLINK_ROUTE].Close()
	k.Handle.Delete()
}

// DeviceName is unique for a tap on this host and fits into IFNAMSIZ. The prefix has at
// most 7 octets.
func DeviceName(prefix, tap string) string {
	f := fnv.New32a()
	f.Write([]byte(tap))
	return fmt.Sprintf("%s%08x", prefix, f.Sum32())
}

// IsGone tells that the error says no more than that the device does not exist.
func IsGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.As(err, &netlink.LinkNotFoundError{})
}

func ignoreGone(err error) error {
	if IsGone(err) {
		return nil
	}
	return err
}
