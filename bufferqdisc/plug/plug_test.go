package plug

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// TestMessage spells out one message as rtnetlink(7) and pkt_sched.h lay it out.
func TestMessage(t *testing.T) {
	n16, n32 := binary.NativeEndian.AppendUint16, binary.NativeEndian.AppendUint32
	for _, c := range []struct {
		create bool
		o      qopt
		flags  uint16
		action uint32
		limit  uint32
	}{
		{true, qopt{actLimit, 1 << 20}, 0x605, 3, 1 << 20}, // REQUEST|ACK|EXCL|CREATE
		{false, qopt{action: actBuffer}, 5, 0, 0},          // REQUEST|ACK
		{false, qopt{action: actReleaseOne}, 5, 1, 0},
		{false, qopt{action: actReleaseIndefinite}, 5, 2, 0},
	} {
		var want []byte
		want = n32(want, 60) // nlmsghdr
		want = n16(want, 36) // RTM_NEWQDISC
		want = n16(want, c.flags)
		want = append(want, make([]byte, 8)...) // sequence number and port: compared below
		want = n32(want, 0)                     // tcmsg: family and padding
		want = n32(want, 77)                    // ifindex
		want = n32(want, 0x48410000)            // handle
		want = n32(want, 0xffffffff)            // parent: TC_H_ROOT
		want = n32(want, 0)                     // info
		want = n16(n16(want, 9), 1)             // TCA_KIND
		want = append(want, "plug\x00\x00\x00\x00"...)
		want = n16(n16(want, 12), 2) // TCA_OPTIONS
		want = n32(n32(want, c.action), c.limit)
		got := message(77, c.create, c.o).Serialize()
		copy(got[8:16], make([]byte, 8))
		if !bytes.Equal(got, want) {
			t.Errorf("%+v:\n% x, want\n% x", c.o, got, want)
		}
	}
}

func TestProbeAnswers(t *testing.T) {
	needRoot(t)
	err := Probe()
	t.Log(err)
	if err != nil && !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if again := Probe(); again != err {
		t.Errorf("then %v", again)
	}
}

func needRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: network namespaces and devices")
	}
}
