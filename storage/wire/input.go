package wire

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Accepted is a backup's yes.
type Accepted struct {
	InputPorts [][]uint16 `json:"input_ports,omitempty"` // for each NIC, of which the primary takes one; none: no copies
}

// accepted reads an ACCEPT; that of a backup without an input handler is empty.
func accepted(p []byte) (a Accepted, err error) {
	if len(p) == 0 {
		return a, nil
	}
	if err := json.Unmarshal(p, &a); err != nil {
		return a, fmt.Errorf("%w: ACCEPT: %v", ErrCorrupt, err)
	}
	return a, nil
}

// Committed is a backup's word that an epoch is committed, and what it has of the guest's
// input, in packets since the connection began.
type Committed struct {
	Epoch   uint64
	Kept    uint64 // now
	Dropped uint64 // for want of room
	Missing uint64 // that did not arrive
}

func (c Committed) payload() (p []byte) {
	for _, n := range []uint64{c.Epoch, c.Kept, c.Dropped, c.Missing} {
		p = binary.BigEndian.AppendUint64(p, n)
	}
	return p
}

// committed reads a COMMIT of at least 8 octets; what is not there is 0.
func committed(p []byte) (c Committed) {
	for _, n := range []*uint64{&c.Epoch, &c.Kept, &c.Dropped, &c.Missing} {
		if len(p) < 8 {
			break
		}
		*n, p = binary.BigEndian.Uint64(p), p[8:]
	}
	return c
}

// Forget tells the backup for each NIC up to which packet it needs no copies any more: a
// committed checkpoint contains them, and the output that followed from them has left.
func (s *Sender) Forget(ctx context.Context, taken []uint64) error {
	var p []byte
	for _, n := range taken {
		p = binary.BigEndian.AppendUint64(p, n)
	}
	return s.during(ctx, func() error { return s.write(appendFrame(nil, TypeForget, p)) })
}
