package input

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// hearRoom is what waits in the kernel until it is read, bytes.
const hearRoom = 4 << 20

// ear hears what comes in for a guest at one port of its standby's bridge. The bridge
// itself would drop it: it has learned at that port where the guest is.
type ear struct {
	file *os.File
	raw  syscall.RawConn
}

// listen opens ears at the ports of a tap's bridge that are no taps, and so lead to
// switches. There are none where more would be heard than the guest may get: at a bridge
// that is told its addresses, that knows VLANs, and behind an isolated port.
func listen(h kernel, tap netlink.Link, mac net.HardwareAddr) (ears []*ear, err error) {
	if ok, err := mayListen(h, tap); !ok || err != nil {
		return nil, err
	}
	links, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if _, isTap := l.(*netlink.Tuntap); isTap || l.Attrs().MasterIndex != tap.Attrs().MasterIndex {
			continue
		}
		e, err := openEar(l, mac)
		if err != nil {
			return ears, fmt.Errorf("packet socket on %s: %w", l.Attrs().Name, err)
		}
		ears = append(ears, e)
	}
	return ears, nil
}

func mayListen(h kernel, tap netlink.Link) (bool, error) {
	if tap.Attrs().MasterIndex == 0 {
		return false, nil
	}
	master, err := h.LinkByIndex(tap.Attrs().MasterIndex)
	if err != nil {
		return false, err
	}
	bridge, ok := master.(*netlink.Bridge)
	if !ok || knowsVLANs(bridge) {
		return false, nil
	}
	p, err := h.LinkGetProtinfo(tap)
	return err == nil && p.Learning && p.Flood && !p.Isolated, err
}

func knowsVLANs(b *netlink.Bridge) bool { return b.VlanFiltering != nil && *b.VlanFiltering }

// openEar reads packets with vnet headers.
func openEar(port netlink.Link, mac net.HardwareAddr) (*ear, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := setUpEar(fd, port.Attrs().Index, mac); err != nil {
		unix.Close(fd)
		return nil, err
	}
	e := &ear{file: os.NewFile(uintptr(fd), port.Attrs().Name)}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		e.file.Close()
		return nil, err
	}
	return e, nil
}

func setUpEar(fd, ifindex int, mac net.HardwareAddr) error {
	raw, err := bpf.Assemble(forGuest(mac))
	if err != nil {
		return err
	}
	var prog []unix.SockFilter
	for _, r := range raw {
		prog = append(prog, unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K})
	}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, hearRoom))
	if err != nil {
		return err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex})
}

// forGuest accepts what is sent to the guest's address or to a group, not by the guest,
// and without a VLAN tag, which the socket would not show.
func forGuest(mac net.HardwareAddr) []bpf.Instruction {
	high, low := binary.BigEndian.Uint32(mac), uint32(binary.BigEndian.Uint16(mac[4:]))
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 11},
		bpf.LoadAbsolute{Off: 6, Size: 4}, // by whom
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: high, SkipTrue: 2},
		bpf.LoadAbsolute{Off: 10, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipTrue: 7},
		bpf.LoadAbsolute{Off: 0, Size: 1}, // to whom
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 1, SkipTrue: 4},
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: high, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: low, SkipTrue: 1},
		bpf.RetConstant{Val: maxFrame + 64},
		bpf.RetConstant{Val: 0},
	}
}

// teach has a bridge know that the guest is at the tap now. It would learn that from the
// guest's first packet, and until then drop what comes in for it where it was before.
func teach(h kernel, tap netlink.Link, mac net.HardwareAddr) error {
	err := h.NeighSet(&netlink.Neigh{
		LinkIndex: tap.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_REACHABLE, Flags: netlink.NTF_MASTER, HardwareAddr: mac,
	})
	if err != nil {
		return fmt.Errorf("teach the bridge of %s where %s is: %w", tap.Attrs().Name, mac, err)
	}
	return nil
}
