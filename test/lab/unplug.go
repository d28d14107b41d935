package lab

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// unplug has the switches stop to hear and to serve a host, on all networks within
// microseconds, and forget who was behind it, as switches do when a host loses power. Links
// that are taken down go one after the other, each in milliseconds in which the kernel
// drops what is for the host: it would have one network longer than the other. Both orders
// go in one message, so that nothing else gets the processor between them.
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
	var message []byte
	wanted := map[uint32]bool{} // answers
	for _, network := range []string{"guest", "mgmt"} {
		port, err := h.lab.handle.LinkByName(h.Port(network))
		if err != nil {
			return fmt.Errorf("link of %s to %s: %w", h.Name, network, err)
		}
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(port.Attrs().Index)
		bridge := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		bridge.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{0}) // BR_STATE_DISABLED
		bridge.AddRtAttr(nl.IFLA_BRPORT_FLUSH, nil)
		req.AddData(msg)
		req.AddData(bridge)
		message = append(message, req.Serialize()...)
		wanted[req.Seq] = true
	}
	if err := unix.Sendto(s.GetFd(), message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("unplug %s: %w", h.Name, err)
	}
	var errs []error
	for len(wanted) > 0 {
		answers, _, err := s.Receive()
		if err != nil {
			return fmt.Errorf("unplug %s: %w", h.Name, err)
		}
		for _, a := range answers {
			if a.Header.Type != unix.NLMSG_ERROR || !wanted[a.Header.Seq] {
				continue
			}
			delete(wanted, a.Header.Seq)
			code := syscall.Errno(-int32(nl.NativeEndian().Uint32(a.Data[0:4])))
			if code != 0 && code != unix.ENETDOWN { // then it was cut off before
				errs = append(errs, fmt.Errorf("unplug %s: %w", h.Name, code))
			}
		}
	}
	return errors.Join(errs...)
}
