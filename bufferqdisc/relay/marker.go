package relay

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
	"golang.org/x/sys/unix"
)

// marker puts a frame of ours into a hold TAP's queue, behind all that the guest has sent:
// there an epoch ends. The guest cannot forge it, as it never sees the key.
type marker struct {
	fd  int // a packet socket that receives nothing
	key [16]byte
}

const (
	etherLocal = 0x88b5 // local experimental (IEEE 802)
	markerSize = 14 + 16 + 8
)

func newMarker() (*marker, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket (needs CAP_NET_RAW): %w", err)
	}
	m := &marker{fd: fd}
	rand.Read(m.key[:]) // never fails (crypto/rand)
	return m, nil
}

// end marks the end of an epoch in the queue of a device.
func (m *marker) end(ifindex int, epoch uint64) error {
	p := binary.BigEndian.AppendUint16(make([]byte, 12, markerSize), etherLocal)
	p = binary.BigEndian.AppendUint64(append(p, m.key[:]...), epoch)
	return unix.Sendto(m.fd, p, 0, &unix.SockaddrLinklayer{Ifindex: ifindex})
}

// ends tells a marker, read with its vnet header, from a guest's frame.
func (m *marker) ends(p []byte) (epoch uint64, ok bool) {
	if len(p) != tapdev.VnetLen+markerSize || !bytes.Equal(p[tapdev.VnetLen+14:tapdev.VnetLen+30], m.key[:]) {
		return 0, false
	}
	return binary.BigEndian.Uint64(p[tapdev.VnetLen+30:]), true
}

// close may be called on nil.
func (m *marker) close() {
	if m != nil {
		unix.Close(m.fd)
	}
}
