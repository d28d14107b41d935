package domain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announceAt are the times of the announcements after the first; the last must come
// after the switches' own reaction to a port that came up.
var announceAt = []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 250 * time.Millisecond}

// announceFor is how long after a guest's restore it is announced, on a machine that is busy
// or was stopped: it has no other replica before that, and so cannot be elsewhere.
const announceFor = 600 * time.Millisecond

// Announce sends RARP requests (RFC 903) from a guest's address, as QEMU does from the
// guest's side after a migration (net/announce.c in its sources), so that switches learn
// where the guest, which came here at a time, is now: four within half a second. dev is a
// bridge, or a tap in whose bridge's name they are sent, and of which that bridge is told.
func Announce(ctx context.Context, dev, mac string, came time.Time) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return fmt.Errorf("announce on %s: %w", dev, err)
	}
	if bridge := bridgeOf(dev); bridge != "" {
		if err := teach(dev, hw); err != nil {
			return fmt.Errorf("announce %s on %s: %w", mac, dev, err)
		}
		dev = bridge
	}
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", mac, dev, err)
	}
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_RARP, nil)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", mac, dev, err)
	}
	defer c.Close()
	frame, to := rarp(hw), &packet.Addr{HardwareAddr: broadcast}
	return repeat(ctx, came, func() error {
		if _, err := c.WriteTo(frame, to); err != nil {
			return fmt.Errorf("announce %s on %s: %w", mac, dev, err)
		}
		return nil
	})
}

// repeat sends, and again announceAt times, but not when announceFor is over.
func repeat(ctx context.Context, came time.Time, send func() error) error {
	for i := 0; time.Since(came) < announceFor; i++ {
		if err := send(); err != nil || i == len(announceAt) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(announceAt[i]):
		}
	}
	return nil
}

// teach has the bridge of a tap know that the guest is there now, if it learns at all: it
// sees nothing of what is sent in its own name, and drops what comes in for the guest from
// where the guest was, until the guest sends something.
func teach(tap string, mac net.HardwareAddr) error {
	link, err := netlink.LinkByName(tap)
	if err != nil {
		return err
	}
	bridge, err := netlink.LinkByIndex(link.Attrs().MasterIndex)
	if err != nil || bridge.Type() != "bridge" {
		return err
	}
	if p, err := netlink.LinkGetProtinfo(link); err != nil || !p.Learning {
		return err
	}
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_REACHABLE, Flags: netlink.NTF_MASTER, HardwareAddr: mac,
	})
}

// AnnounceAll announces each interface of a guest that came here at a time.
func AnnounceAll(ctx context.Context, nics []NIC, came time.Time) error {
	var wg sync.WaitGroup
	errs := make([]error, len(nics))
	for i, n := range nics {
		wg.Go(func() { errs[i] = Announce(ctx, n.Tap, n.MAC, came) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// rarp is a reverse-ARP request for its own address, in an Ethernet frame of 60 octets.
func rarp(hw net.HardwareAddr) []byte {
	b := append(append([]byte{}, broadcast...), hw...)
	b = append(b, 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3) // RARP; Ethernet, IPv4; request reverse
	b = append(b, hw...)
	b = append(b, 0, 0, 0, 0)
	b = append(b, hw...)
	return append(b, make([]byte, 60-len(b))...)
}
