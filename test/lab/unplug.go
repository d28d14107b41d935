package lab

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// unplug has the switches stop to hear and to serve a host, on all networks within
// microseconds, and forget who was behind it, as switches do when a host loses power. Links
// that are taken down go one after the other, each in milliseconds in which the kernel
// drops what is for the host: it would have one network longer than the other.
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
	var all []*nl.NetlinkRequest
	for _, network := range []string{"guest", "mgmt"} {
		port, err := h.lab.handle.LinkByName(h.Port(network))
		if err != nil {
			return fmt.Errorf("link of %s to %s: %w", h.Name, network, err)
		}
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(port.Attrs().Index)
		bridge := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		bridge.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{0}) // BR_STATE_DISABLED
		bridge.AddRtAttr(nl.IFLA_BRPORT_FLUSH, nil)
		req.AddData(msg)
		req.AddData(bridge)
		all = append(all, req)
	}
	var errs []error
	for _, req := range all {
		if _, err := req.Execute(unix.NETLINK_ROUTE, 0); !errors.Is(err, unix.ENETDOWN) { // then it was cut off before
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
