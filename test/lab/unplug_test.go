package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// TestPowerOffLosesNothingUnderWay: what is sent to a host that loses power is with that
// host, and what it does with it in its kernel on the other network, or the switch floods
// it. A host that lost packets for the lab's sake could not show that hamgr loses none.
func TestPowerOffLosesNothingUnderWay(t *testing.T) {
	for range 3 {
		u := underWay(t)
		t.Logf("of %d packets the host sent on %d, and %d were flooded; the sender stood still for %v at most", u.sent, u.by[0], u.by[1], u.stall)
		switch {
		case u.by[0] == 0 || u.by[1] == 0 || len(u.lost) > 0 && u.stall < settleFor/2:
			t.Fatalf("lost: %v", u.lost)
		case len(u.lost) == 0:
			return
		}
		t.Logf("lost: %v, but one packet's way may have taken as long as a kernel is given", u.lost)
	}
	t.Fatal("the machine stood still each time")
}

// passage is what became of packets to a host that lost power.
type passage struct {
	sent  int
	by    [2]int // that were heard on the management network, and flooded
	lost  []int
	stall time.Duration // by which the sender, in whose time all the rest happens, was late for one at most
}

// underWay sends all the time to a host that then loses power.
func underWay(t *testing.T) (u passage) {
	l := up(t, 2)
	guest := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x77}
	forward(t, l.Host("h1"))
	heard := []int{packetSocket(t, l.Host("h2"), "eth0", unix.ETH_P_ALL), packetSocket(t, l.Host("h2"), "eth1", unix.ETH_P_ALL)}
	at, client := packetSocket(t, l.Host("h1"), "eth1", 0), packetSocket(t, l.Host("client"), "eth1", 0)
	// The switches learn where the guest is; on the other network nobody knows it.
	_, err := unix.Write(at, testFrame(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, guest, 0))
	must(t, err)

	const first, most, every = 10000, 80000, 10 * time.Microsecond // most: what a socket has room for
	begun, off, sent := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		next, end, off := time.Now(), most, off
		for u.sent < end && err == nil {
			if u.sent++; u.sent == first {
				close(begun)
			}
			for next = next.Add(every); time.Now().Before(next); {
			}
			if late := time.Since(next); late > every {
				if u.sent > first {
					u.stall = max(u.stall, late)
				}
				next = time.Now()
			}
			_, err = unix.Write(client, testFrame(guest, net.HardwareAddr{2, 0, 0, 0, 0, 1}, uint32(u.sent)))
			select {
			case <-off:
				end, off = min(end, u.sent+5000), nil
			default:
			}
		}
		sent <- err
	}()
	select {
	case <-begun:
	case err := <-sent:
		t.Fatal("not all were sent: ", err)
	}
	_, err = l.Host("h1").PowerOff()
	close(off)
	must(t, errors.Join(err, <-sent))

	seen := make([]bool, u.sent+1)
	for i, fd := range heard {
		for _, n := range numbers(fd) {
			if n > 0 && int(n) <= u.sent {
				seen[n] = true
				u.by[i]++
			}
		}
	}
	for n := 1; n <= u.sent; n++ {
		if !seen[n] {
			u.lost = append(u.lost, n)
		}
	}
	return u
}

// TestPowerOffIsOnAllNetworks: a host that is cut off from the guests' network and not yet from
// the others must do nothing more, or it would commit what nobody has seen.
func TestPowerOffIsOnAllNetworks(t *testing.T) {
	l := up(t, 2)
	guest, mgmt := packetSocket(t, l.Host("h2"), "eth1", unix.ETH_P_ALL), packetSocket(t, l.Host("h2"), "eth0", unix.ETH_P_ALL)
	_, said := begin(t, l.Host("h1").Command(t.Context(), "env", roleVariable+"=both", "/opt/test/"+filepath.Base(self(t))))
	said.next(t)
	_, err := l.Host("h1").PowerOff()
	must(t, err)
	last, after := slices.Max(append(numbers(guest), 0)), slices.Max(append(numbers(mgmt), 0))
	t.Logf("%d packets on the guests' network, %d on the other", last, after)
	// Of the first, what the kernel had yet to hand on may be lost.
	if last == 0 || after > last+100 {
		t.Errorf("the host sent %d packets more when it had lost the guests' network", after-last)
	}
}

// both sends packets on a host's two networks by turns.
func both() {
	guest, err := openPacket("eth1", 0)
	check(err)
	mgmt, err := openPacket("eth0", 0)
	check(err)
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	from := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for n, end := uint32(1), time.Now().Add(patience); time.Now().Before(end); n++ {
		for _, fd := range []int{guest, mgmt} {
			_, err := unix.Write(fd, testFrame(all, from, n))
			check(err)
		}
		if n == 1000 {
			fmt.Println("1000 packets on each")
		}
	}
	os.Exit(0)
}

// numbers are those of the test's frames that a socket has heard.
func numbers(fd int) (all []uint32) {
	for b := make([]byte, 128); ; {
		size, err := unix.Read(fd, b)
		if err != nil {
			return all
		}
		if size == 60 && binary.BigEndian.Uint16(b[12:]) == testEther {
			all = append(all, binary.BigEndian.Uint32(b[14:]))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// forward has a host's kernel send on to the management network what comes from the guests'.
func forward(t *testing.T, h *Host) {
	t.Helper()
	inside(t, h, func() error {
		from, err := net.InterfaceByName("eth1")
		if err != nil {
			return err
		}
		to, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(to.Index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
		}})
		if err != nil {
			return err
		}
		t.Cleanup(func() { prog.Close() })
		k, err := link.AttachTCX(link.TCXOptions{Interface: from.Index, Attach: ebpf.AttachTCXIngress, Program: prog})
		if err == nil {
			t.Cleanup(func() { k.Close() })
		}
		return err
	})
}

// testEther is an EtherType for experiments.
const testEther = 0x88b5

// packetSocket is openPacket on a host.
func packetSocket(t *testing.T, h *Host, device string, protocol uint16) (fd int) {
	t.Helper()
	inside(t, h, func() (err error) {
		if fd, err = openPacket(device, protocol); err == nil {
			t.Cleanup(func() { unix.Close(fd) })
		}
		return err
	})
	return fd
}

// openPacket is a socket on a device that does not wait for packets; with protocol 0 it
// hears nothing.
func openPacket(device string, protocol uint16) (int, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: i.Index}))
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func testFrame(to, from net.HardwareAddr, n uint32) []byte {
	b := append(append([]byte{}, to...), from...)
	b = binary.BigEndian.AppendUint16(b, testEther)
	b = binary.BigEndian.AppendUint32(b, n)
	return append(b, make([]byte, 60-len(b))...)
}
