package plug

import (
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// wire carries plug messages, in the network namespace it was opened in, and hears what
// happens to links there.
type wire struct {
	requests map[int]*nl.SocketHandle
	events   int // a netlink socket, not blocking
}

func openWire() (*wire, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	timeout := unix.Timeval{Sec: 2}
	s.SetSendTimeout(&timeout)
	s.SetReceiveTimeout(&timeout)
	w := &wire{requests: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}
	w.events, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err == nil {
		err = unix.Bind(w.events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK})
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("netlink link events: %w", err)
	}
	return w, nil
}

func (w *wire) close() {
	w.requests[unix.NETLINK_ROUTE].Close()
	if w.events > 0 {
		unix.Close(w.events)
	}
}

func (w *wire) send(req *nl.NetlinkRequest) error {
	req.Sockets = w.requests
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// flapped reads the link events since its last call and says whether one of them, for a
// device in the set, says it is not up. The kernel queues the event before it lets the
// device come up again, so a flap that is over cannot be missed. Events that were lost
// count as a flap.
func (w *wire) flapped(devices map[int]bool) (bool, error) {
	down := false
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(w.events, buf, 0)
		switch {
		case err == unix.EAGAIN:
			return down, nil
		case err == unix.EINTR:
			continue
		case err == unix.ENOBUFS:
			down = true
			continue
		case err != nil:
			return true, fmt.Errorf("link events: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return true, fmt.Errorf("link events: %w", err)
		}
		for _, m := range msgs {
			down = down || isDown(m, devices)
		}
	}
}

func isDown(m syscall.NetlinkMessage, devices map[int]bool) bool {
	if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK {
		return false
	}
	if len(m.Data) < unix.SizeofIfInfomsg {
		return true
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	if !devices[int(info.Index)] {
		return false
	}
	return m.Header.Type == unix.RTM_DELLINK || info.Flags&unix.IFF_UP == 0
}
