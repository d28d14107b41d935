package lab

import (
	"encoding/binary"
	"net"
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
	l := up(t, 2)
	guest := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x77}
	forward(t, l.Host("h1"))
	heard := []int{packetSocket(t, l.Host("h2"), "eth0", unix.ETH_P_ALL), packetSocket(t, l.Host("h2"), "eth1", unix.ETH_P_ALL)}
	at, client := packetSocket(t, l.Host("h1"), "eth1", 0), packetSocket(t, l.Host("client"), "eth1", 0)
	// The switches learn where the guest is; on the other network nobody knows it.
	_, err := unix.Write(at, testFrame(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, guest, 0))
	must(t, err)

	const all, every = 30000, 10 * time.Microsecond
	third, sent := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for n, next := uint32(1), time.Now(); n <= all && err == nil; n++ {
			if n == all/3 {
				close(third)
			}
			for next = next.Add(every); time.Now().Before(next); {
			}
			_, err = unix.Write(client, testFrame(guest, net.HardwareAddr{2, 0, 0, 0, 0, 1}, n))
		}
		sent <- err
	}()
	select {
	case <-third:
	case err := <-sent:
		t.Fatal("not all were sent: ", err)
	}
	_, err = l.Host("h1").PowerOff()
	must(t, err)
	must(t, <-sent)

	var by [2]int
	seen := make([]bool, all+1)
	for i, fd := range heard {
		for {
			b := make([]byte, 128)
			size, err := unix.Read(fd, b)
			if err != nil {
				break
			}
			if n := binary.BigEndian.Uint32(b[14:]); size == 60 && binary.BigEndian.Uint16(b[12:]) == testEther && n > 0 && n <= all {
				seen[n] = true
				by[i]++
			}
		}
	}
	var lost []int
	for n := 1; n <= all; n++ {
		if !seen[n] {
			lost = append(lost, n)
		}
	}
	t.Logf("of %d packets the host sent on %d, and %d were flooded", all, by[0], by[1])
	if len(lost) > 0 || by[0] == 0 || by[1] == 0 {
		t.Errorf("lost: %v", lost)
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

// packetSocket is one on a host's device, and does not wait for packets; with protocol 0 it
// hears nothing.
func packetSocket(t *testing.T, h *Host, device string, protocol uint16) (fd int) {
	t.Helper()
	inside(t, h, func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return err
		}
		network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: i.Index})
	})
	return fd
}

func testFrame(to, from net.HardwareAddr, n uint32) []byte {
	b := append(append([]byte{}, to...), from...)
	b = binary.BigEndian.AppendUint16(b, testEther)
	b = binary.BigEndian.AppendUint32(b, n)
	return append(b, make([]byte, 60-len(b))...)
}
