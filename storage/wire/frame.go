// Package wire is the connection between a primary and its backup: storage/WIRE.md.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Type is a frame's type.
type Type uint16

// The frame types of version 1.
const (
	TypeHello Type = iota + 1
	TypeAccept
	TypeRefuse
	TypeLayout
	TypePages
	TypeBegin
	TypeDeviceState
	TypeEnd
	TypeCommit
	TypeForget
)

const (
	magic          = "HMGR"
	version        = 1
	headerSize     = 16
	mustUnderstand = 1
	maxFrame       = 4 << 20
	maxDeviceState = 64 << 20
	// PageSize is the size of a page's data, bytes; recordSize that of its header.
	PageSize   = 4096
	recordSize = 16
)

// Errors of a stream that does not follow WIRE.md.
var (
	ErrTruncated = errors.New("wire: the stream ended inside a frame")
	ErrCorrupt   = errors.New("wire: the stream is corrupt")
	ErrVersion   = errors.New("wire: unknown version")
	ErrTooLarge  = errors.New("wire: frame too large")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putHeader fills the first 16 octets of frame for the payload that follows them.
func putHeader(frame []byte, t Type) {
	binary.BigEndian.PutUint16(frame, uint16(t))
	binary.BigEndian.PutUint16(frame[2:], mustUnderstand)
	binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)-headerSize))
	binary.BigEndian.PutUint32(frame[8:], crc32.Checksum(frame[headerSize:], castagnoli))
	binary.BigEndian.PutUint32(frame[12:], 0)
}

func appendFrame(b []byte, t Type, payload []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, headerSize)...)
	b = append(b, payload...)
	putHeader(b[start:], t)
	return b
}

// readFrame reads the next known frame into *buf, which it grows as needed.
// io.EOF means that the stream ended between two frames.
func readFrame(r io.Reader, buf *[]byte) (Type, []byte, error) {
	for {
		var h [headerSize]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return 0, nil, truncated(err)
		}
		t := Type(binary.BigEndian.Uint16(h[:]))
		n := int(binary.BigEndian.Uint32(h[4:]))
		if limit := limitOf(t); n > limit {
			return 0, nil, fmt.Errorf("%w: type %d has %d bytes, at most %d", ErrTooLarge, t, n, limit)
		}
		if cap(*buf) < n {
			*buf = make([]byte, n)
		}
		p := (*buf)[:n]
		if _, err := io.ReadFull(r, p); err != nil {
			return 0, nil, ErrTruncated
		}
		if crc32.Checksum(p, castagnoli) != binary.BigEndian.Uint32(h[8:]) {
			return 0, nil, fmt.Errorf("%w: checksum of a frame of type %d", ErrCorrupt, t)
		}
		if t >= TypeHello && t <= TypeForget {
			return t, p, nil
		}
		if h[3]&mustUnderstand != 0 {
			return 0, nil, fmt.Errorf("%w: frame type %d must be understood", ErrVersion, t)
		}
	}
}

func limitOf(t Type) int {
	if t == TypeDeviceState {
		return maxDeviceState
	}
	return maxFrame
}

func truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}
