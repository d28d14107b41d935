package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
)

// Frame is one frame as received. Payload is valid until the next call of Next.
type Frame struct {
	Type    Type
	Payload []byte
	Epoch   uint64   // BEGIN, END
	Count   uint64   // END: page records since BEGIN
	Taken   []uint64 // FORGET: for each NIC, the last packet that a checkpoint contains
}

// Receiver is the backup's end.
type Receiver struct {
	conn net.Conn
	in   *bufio.Reader
	buf  []byte
}

// NewReceiver wraps a fresh connection.
func NewReceiver(conn net.Conn) *Receiver {
	return &Receiver{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
}

// Hello reads the preamble and the introduction.
func (r *Receiver) Hello() (Hello, error) {
	var pre [8]byte
	var h Hello
	if _, err := io.ReadFull(r.in, pre[:]); err != nil {
		return h, truncated(err)
	}
	if string(pre[:4]) != magic {
		return h, fmt.Errorf("%w: magic %q", ErrCorrupt, pre[:4])
	}
	if v := binary.BigEndian.Uint16(pre[4:]); v != version {
		return h, fmt.Errorf("%w %d, this node speaks %d", ErrVersion, v, version)
	}
	err := r.json(TypeHello, &h)
	return h, err
}

// Layout reads the description of the memory.
func (r *Receiver) Layout() (l Layout, err error) {
	err = r.json(TypeLayout, &l)
	return l, err
}

func (r *Receiver) json(want Type, out any) error {
	t, p, err := readFrame(r.in, &r.buf)
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%w: frame type %d instead of %d", ErrCorrupt, t, want)
	}
	if err := json.Unmarshal(p, out); err != nil {
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return nil
}

// Next reads the next frame after the layout. io.EOF: the primary hung up between frames.
func (r *Receiver) Next() (Frame, error) {
	t, p, err := readFrame(r.in, &r.buf)
	f := Frame{Type: t, Payload: p}
	if err != nil {
		return f, err
	}
	switch t {
	case TypeBegin:
		if len(p) < 8 {
			return f, fmt.Errorf("%w: short BEGIN", ErrCorrupt)
		}
		f.Epoch = binary.BigEndian.Uint64(p)
	case TypeEnd:
		if len(p) < 16 {
			return f, fmt.Errorf("%w: short END", ErrCorrupt)
		}
		f.Epoch, f.Count = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	case TypeForget:
		if len(p)%8 != 0 {
			return f, fmt.Errorf("%w: FORGET of %d octets", ErrCorrupt, len(p))
		}
		for ; len(p) > 0; p = p[8:] {
			f.Taken = append(f.Taken, binary.BigEndian.Uint64(p))
		}
	case TypePages, TypeDeviceState:
	default:
		return f, fmt.Errorf("%w: frame type %d in mid-stream", ErrCorrupt, t)
	}
	return f, nil
}

// Accept says that the standby waits.
func (r *Receiver) Accept(a Accepted) error {
	p, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return r.send(TypeAccept, p)
}

// Refuse says no.
func (r *Receiver) Refuse(e *RefusedError) error {
	p, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return r.send(TypeRefuse, p)
}

// Commit says that an epoch is staged, applied and recorded.
func (r *Receiver) Commit(c Committed) error { return r.send(TypeCommit, c.payload()) }

func (r *Receiver) send(t Type, p []byte) error {
	_, err := r.conn.Write(appendFrame(nil, t, p))
	return err
}
