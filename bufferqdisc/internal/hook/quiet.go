package hook

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
)

// addrGenNone is IN6_ADDR_GEN_MODE_NONE (include/uapi/linux/if_link.h).
const addrGenNone = 1

// Quiet keeps the kernel from speaking on a device of ours: without IPv6 addresses it
// sends no solicitations or reports. Call it before the device is up, in its namespace.
func Quiet(h Netlink, l netlink.Link) error {
	conf := "/proc/sys/net/ipv6/conf/" + l.Attrs().Name
	if _, err := os.Stat(conf); os.IsNotExist(err) {
		return nil // a kernel without IPv6
	}
	err := os.WriteFile(conf+"/disable_ipv6", []byte("1"), 0)
	if err == nil {
		return nil
	}
	// /proc/sys is read-only in many containers; netlink is not.
	if e := h.LinkSetIP6AddrGenMode(l, addrGenNone); e != nil {
		return fmt.Errorf("keep IPv6 off %s: %w (and %w)", l.Attrs().Name, err, e)
	}
	return nil
}
