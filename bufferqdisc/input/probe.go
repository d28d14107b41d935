package input

import (
	"errors"
	"net/netip"

	"github.com/hamgr/hamgr/bufferqdisc/internal/hook"
	"github.com/vishvananda/netlink"
)

// Probe tells what this kernel or process lacks to copy a guest's input; nil: nothing.
func Probe() error {
	h, err := dial()
	if err != nil {
		return err
	}
	defer h.Delete()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = tunnelPrefix + "probe"
	tunnel := &netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: probePort}
	if err := h.LinkAdd(tunnel); err != nil {
		return errors.Join(errNoTunnel, err)
	}
	c, err := newCopier(tunnel.Index, tunnel.Index, netip.IPv4Unspecified())
	if err == nil {
		err = hook.On(h, tunnel).AttachInput(c.number)
	}
	return errors.Join(err, c.close(), h.LinkDel(tunnel))
}

// probePort is never taken: the device does not come up.
const probePort = 9

var errNoTunnel = errors.New("no VXLAN device can be made")
