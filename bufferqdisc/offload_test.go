package bufferqdisc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hamgr/hamgr/test/bridge"
)

// TestOffloadsSurvive sends what a guest with offloads sends: packets larger than the
// link takes, and packets without their checksum.
func TestOffloadsSurvive(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		for _, c := range []struct {
			v6      bool
			proto   byte
			size    int
			gso     uint16
			partial bool
		}{
			{false, unix.IPPROTO_TCP, 60_000, 1448, true},
			{true, unix.IPPROTO_TCP, 60_000, 1428, true},
			{false, unix.IPPROTO_UDP, 1200, 0, true},
			{true, unix.IPPROTO_UDP, 1200, 0, true},
			{false, unix.IPPROTO_UDP, 1200, 0, false},
		} {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
				l := newLab(t, 1)
				b := setUp(t, l, backend, 0)
				must(t, b.Hold())
				payload := make([]byte, c.size)
				for i := range payload {
					payload[i] = byte(rand.Uint32())
				}
				sent := ipFrame(l.guests[0], c.v6, c.proto, payload, c.gso, c.partial)
				l.write(l.guests[0], sent)
				must(t, l.wantSeqs())
				e, err := b.EndEpoch()
				must(t, err)
				must(t, b.Release(e, whenever))
				got, err := l.await(1)
				must(t, err)
				if len(got) != 1 {
					t.Fatalf("%d packets arrived", len(got))
				}
				must(t, sameOffload(sent, got[0]))
				if s := b.Stats(); s.Released == 0 || s.Dropped != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	})
}

// sameOffload compares what was sent with what arrived: all but the checksum and its
// flag must be the same, and the checksum right or still to do.
func sameOffload(sent, got []byte) error {
	if len(sent) != len(got) {
		return fmt.Errorf("%d octets arrived, %d were sent", len(got), len(sent))
	}
	if sent[1] != got[1] || !bytes.Equal(sent[4:6], got[4:6]) {
		return fmt.Errorf("vnet header % x became % x", sent[:vnetHeader], got[:vnetHeader])
	}
	if got[0]&1 != 0 { // still to do: by the same rule
		if !bytes.Equal(sent[6:], got[6:]) {
			return fmt.Errorf("the packet was changed")
		}
		return nil
	}
	return bridge.CheckIP(got[vnetHeader:])
}

// TestManySmallAndLargePackets fills several buffers' worth.
func TestManySmallAndLargePackets(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		l := newLab(t, 1)
		g := l.guests[0]
		b := setUp(t, l, backend, 0)
		must(t, b.Hold())
		var want []uint32
		for seq := range uint32(300) {
			p := ipFrame(g, false, unix.IPPROTO_TCP, make([]byte, 60_000), 1448, true)
			if seq%2 == 1 {
				p = ipFrame(g, false, unix.IPPROTO_UDP, make([]byte, seq), 0, false)
			}
			l.write(g, p)
			want = append(want, uint32(len(p)))
		}
		e, err := b.EndEpoch()
		must(t, err)
		must(t, b.Release(e, whenever))
		got, err := l.await(len(want))
		must(t, err)
		var sizes []uint32
		for _, p := range got {
			sizes = append(sizes, uint32(len(p)))
		}
		if fmt.Sprint(sizes) != fmt.Sprint(want) {
			t.Fatalf("sizes %v, want %v", sizes, want)
		}
	})
}
