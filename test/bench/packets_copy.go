package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/hamgr/hamgr/bufferqdisc/input"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	copyRounds = 9
	copyBursts = 40
	copyBurst  = 400 // fits a tap's queue
	copySize   = 64  // octets
)

// copyCost is what the input handler's copy of a packet costs the host that sends it to
// the guest: on a tap in a namespace, read by nobody but us.
func copyCost(_ context.Context, r *run) error {
	type result struct {
		bare, copied []float64
		err          error
	}
	done := make(chan result)
	go func() { // its thread, which has changed its namespace, ends with it
		runtime.LockOSThread()
		var x result
		x.bare, x.copied, x.err = copyRoundsIn()
		done <- x
	}()
	x := <-done
	if x.err != nil {
		return fmt.Errorf("the cost of a copy: %w", x.err)
	}
	return r.Add(Figure{Name: "copy of a packet to the backup", Value: median(x.copied) - median(x.bare), Unit: "us", Samples: len(x.copied),
		Parts: map[string]float64{"without_p50": median(x.bare), "with_p50": median(x.copied)},
		How: fmt.Sprintf("time to send %d octets to a tap with and without the copy, in turns, medians of %d rounds of %d; both hosts are on this machine: with it goes the way into the backup's socket",
			copySize, copyRounds, copyBursts*copyBurst)})
}

// copyRoundsIn makes two hosts of namespaces, and returns us for each packet, by round.
func copyRoundsIn() (bare, copied []float64, err error) {
	backup, err := netns.New()
	if err != nil {
		return nil, nil, err
	}
	defer backup.Close()
	primary, err := netns.New()
	if err != nil {
		return nil, nil, err
	}
	defer primary.Close()
	t, err := newCopyTap(primary, backup)
	if err != nil {
		return nil, nil, err
	}
	defer t.close()
	for range copyRounds {
		if bare, err = t.round(bare); err != nil {
			return nil, nil, err
		}
		m, err := input.NewMirror(input.MirrorConfig{Name: "bench", Taps: []string{"t0"}, To: netip.MustParseAddr("10.0.0.2"), Ports: t.keeper.Ports()})
		if err == nil {
			err = m.Start()
		}
		if err == nil {
			copied, err = t.round(copied)
		}
		if m != nil {
			if s := m.Stats(); err == nil && s.Copied < copyBursts*copyBurst {
				err = fmt.Errorf("only %d packets were copied", s.Copied)
			}
			err = errors.Join(err, m.Close())
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return bare, copied, nil
}

// copyTap is a guest's tap, a way to send to it, and the backup's side.
type copyTap struct {
	file, send int
	keeper     *input.Keeper
}

// newCopyTap leaves the thread in the primary's namespace.
func newCopyTap(primary, backup netns.NsHandle) (*copyTap, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "m"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "m", PeerNamespace: netlink.NsFd(backup)}); err != nil {
		return nil, err
	}
	if err := errors.Join(netns.Set(backup), address("10.0.0.2/24")); err != nil {
		return nil, err
	}
	k, err := input.NewKeeper(input.Config{Name: "bench", Listen: netip.MustParseAddr("10.0.0.2"), From: netip.MustParseAddr("10.0.0.1"), NICs: 1})
	if err != nil {
		return nil, err
	}
	t := &copyTap{file: -1, send: -1, keeper: k}
	err = errors.Join(netns.Set(primary), address("10.0.0.1/24"))
	if err == nil {
		err = t.open()
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// address gives this namespace's end of the network between the hosts one.
func address(a string) error {
	m, err := netlink.LinkByName("m")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(a)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(m, addr), netlink.LinkSetUp(m))
}

func (t *copyTap) open() (err error) {
	if t.file, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	req, err := unix.NewIfreq("t0")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(t.file, unix.TUNSETIFF, req); err != nil {
		return err
	}
	tap, err := netlink.LinkByName("t0")
	if err == nil {
		err = netlink.LinkSetUp(tap)
	}
	if err != nil {
		return err
	}
	if t.send, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	return unix.Bind(t.send, &unix.SockaddrLinklayer{Ifindex: tap.Attrs().Index})
}

// round adds to list what a packet took, us.
func (t *copyTap) round(list []float64) ([]float64, error) {
	packet := make([]byte, copySize)
	packet[12], packet[13] = 0x88, 0xb6 // local experimental (IEEE 802)
	var took time.Duration
	buf := make([]byte, 2*copySize)
	for range copyBursts {
		began := time.Now()
		for range copyBurst {
			if _, err := unix.Write(t.send, packet); err != nil {
				return list, err
			}
		}
		took += time.Since(began)
		for err := error(nil); err == nil; {
			_, err = unix.Read(t.file, buf)
		}
	}
	return append(list, float64(took.Nanoseconds())/1000/(copyBursts*copyBurst)), nil
}

func (t *copyTap) close() {
	for _, fd := range []int{t.file, t.send} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	t.keeper.Close()
}
