package lab

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// settleFor is what a host's kernel has to be through with what it got: its turn may be long
// in coming, on a machine that is busy. What runs on a kernel of its own goes on meanwhile,
// so there it is short.
const (
	settleFor    = 10 * time.Millisecond
	settleForUML = 2 * time.Millisecond
)

// portDisabled is BR_STATE_DISABLED (linux/if_bridge.h).
const portDisabled = 0

// unplug stops the host's processes and has the switches stop to hear and to serve it, on
// all networks, and forget who was behind it, as switches do when a host loses power.
//
// What is under way then gets through: it is hamgr's losses that are to be seen, not the
// lab's. So the guests' network first floods what it had for the host, which may get it,
// too; then the host stops and is cut off there, and when its kernel is through with what it
// got, the rest is. With only one network gone it must not go on: its hamgr would commit
// epochs whose output is lost, and no loss of power does that. Links that were taken down
// would drop for milliseconds what is for the host.
func (h *Host) unplug() error {
	ns, err := netns.GetFromPid(h.lab.sw.Pid())
	if err != nil {
		return err
	}
	defer ns.Close()
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer s.Close()
	ports := map[string]int{}
	for _, network := range Networks {
		port, err := h.lab.handle.LinkByName(h.Port(network))
		if err != nil {
			return fmt.Errorf("link of %s to %s: %w", h.Name, network, err)
		}
		ports[network] = port.Attrs().Index
	}
	var errs []error
	order := func(network string, set ...*nl.RtAttr) {
		err := setPort(s, ports[network], set)
		if err != nil && !errors.Is(err, unix.ENETDOWN) { // then it was cut off before
			errs = append(errs, fmt.Errorf("unplug %s from %s: %w", h.Name, network, err))
		}
	}
	flush, disable := nl.NewRtAttr(nl.IFLA_BRPORT_FLUSH, nil), nl.NewRtAttr(nl.IFLA_BRPORT_STATE, []byte{portDisabled})
	order("guest", nl.NewRtAttr(nl.IFLA_BRPORT_LEARNING, []byte{0}), flush)
	settle := settleForUML
	if h.spec.Kind != UML {
		settle = settleFor
		errs = append(errs, h.stop())
	}
	order("guest", disable)
	time.Sleep(settle)
	order("mgmt", disable, flush)
	order("guest", nl.NewRtAttr(nl.IFLA_BRPORT_LEARNING, []byte{1})) // for when it is healed
	return errors.Join(errs...)
}

// setPort sets attributes of a bridge's port (IFLA_BRPORT_*, linux/if_link.h); the kernel
// takes them in an order of its own (net/bridge/br_netlink.c, br_setport).
func setPort(s *nl.NetlinkSocket, index int, set []*nl.RtAttr) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for _, a := range set {
		port.AddChild(a)
	}
	req.AddData(msg)
	req.AddData(port)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
