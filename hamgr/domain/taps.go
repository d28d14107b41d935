package domain

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// setTaps takes the taps of interfaces up or down.
func setTaps(nics []NIC, set func(netlink.Link) error) error {
	for _, n := range nics {
		link, err := netlink.LinkByName(n.Tap)
		if err == nil {
			err = set(link)
		}
		if err != nil {
			return fmt.Errorf("tap %s: %w", n.Tap, err)
		}
	}
	return nil
}

// bridgeOf is the name of the bridge that a link is a port of; empty: of none.
func bridgeOf(dev string) string {
	link, err := netlink.LinkByName(dev)
	if err != nil || link.Attrs().MasterIndex == 0 {
		return ""
	}
	bridge, err := netlink.LinkByIndex(link.Attrs().MasterIndex)
	if err != nil {
		return ""
	}
	return bridge.Attrs().Name
}
