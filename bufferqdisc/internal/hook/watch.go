package hook

import (
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	groupTC     = 1 << (unix.RTNLGRP_TC - 1)
	watchBuffer = 1 << 20
)

// Watch hears what happens to links, qdiscs and filters of a network namespace. It has
// no goroutine: events wait in its socket until they are looked at.
type Watch struct{ fd int }

// Devices are those that a Look is about, by number.
type Devices struct {
	Own  map[int]bool // they belong to the buffer
	Taps map[int]bool // it has filters on them
}

// Changes is what was heard of them.
type Changes struct {
	// Down: one of the buffer's own was not up for a moment, or is gone. The kernel queues
	// this event before it lets the device come up again, so a flap that is over cannot be
	// missed.
	Down bool
	// Touched: a qdisc was removed, or a filter added or removed, or a tap is gone, or
	// something was set on one of the buffer's own.
	Touched bool
}

func newWatch() (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err == nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer) // else a smaller one: see ENOBUFS
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | groupTC})
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("netlink events: %w", err)
	}
	return &Watch{fd}, nil
}

// Close may be called on nil.
func (w *Watch) Close() {
	if w != nil {
		unix.Close(w.fd)
	}
}

// Look reads the events since its last call that are about these devices. Events that
// were lost, and an error, count as both changes.
func (w *Watch) Look(d Devices) (c Changes, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		switch {
		case err == unix.EAGAIN:
			return c, nil
		case err == unix.EINTR:
			continue
		case err == unix.ENOBUFS:
			c = Changes{true, true}
			continue
		}
		var msgs []syscall.NetlinkMessage
		if err == nil {
			msgs, err = syscall.ParseNetlinkMessage(buf[:n])
		}
		if err != nil {
			return Changes{true, true}, fmt.Errorf("netlink events: %w", err)
		}
		for _, m := range msgs {
			c.add(m, d)
		}
	}
}

func (c *Changes) add(m syscall.NetlinkMessage, d Devices) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			*c = Changes{true, true}
			return
		}
		info := nl.DeserializeIfInfomsg(m.Data)
		gone := m.Header.Type == unix.RTM_DELLINK
		if gone || info.Flags&unix.IFF_UP == 0 {
			c.Down = c.Down || d.Own[int(info.Index)]
		}
		c.Touched = c.Touched || d.Own[int(info.Index)] || gone && d.Taps[int(info.Index)]
	case unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		if len(m.Data) < nl.SizeofTcMsg {
			c.Touched = true
			return
		}
		i := int(nl.DeserializeTcMsg(m.Data).Ifindex)
		c.Touched = c.Touched || d.Own[i] || d.Taps[i]
	}
}
