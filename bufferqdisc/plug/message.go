package plug

import (
	"encoding/binary"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// action is enum tc_plug_action.
type action int32

const (
	actBuffer            action = iota // TCQ_PLUG_BUFFER: an epoch ends here
	actReleaseOne                      // TCQ_PLUG_RELEASE_ONE: the ended epoch goes
	actReleaseIndefinite               // TCQ_PLUG_RELEASE_INDEFINITE: all goes, from now on
	actLimit                           // TCQ_PLUG_LIMIT: bytes held at most
)

func (a action) String() string {
	return [...]string{"BUFFER", "RELEASE_ONE", "RELEASE_INDEFINITE", "LIMIT"}[a]
}

// qopt is struct tc_plug_qopt: int action; __u32 limit, in the machine's byte order.
type qopt struct {
	action action
	limit  uint32
}

func (o qopt) encode() []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(o.action))
	return binary.NativeEndian.AppendUint32(b, o.limit)
}

// handle names our qdisc, 4841:0.
var handle = netlink.MakeHandle(0x4841, 0)

// message makes or, without create, changes the plug of a device. A new plug takes the
// limit from it, whatever the action, and is plugged.
func message(ifindex int, create bool, o qopt) *nl.NetlinkRequest {
	flags := unix.NLM_F_ACK
	if create {
		flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, flags)
	req.AddData(&nl.TcMsg{
		Family: nl.FAMILY_ALL, Ifindex: int32(ifindex), Handle: handle, Parent: netlink.HANDLE_ROOT,
	})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("plug")))
	req.AddData(nl.NewRtAttr(nl.TCA_OPTIONS, o.encode()))
	return req
}
