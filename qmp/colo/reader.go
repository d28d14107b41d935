package colo

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Errors of a stream that is not what QEMU writes. Both come with the offset in the
// stream and with what was expected there.
var (
	// ErrTruncated: the stream ended inside something.
	ErrTruncated = errors.New("colo: the stream from QEMU ended early")
	// ErrProtocol: the stream has something this reader does not expect there.
	ErrProtocol = errors.New("colo: unexpected data in the stream from QEMU")
)

// bufferSize is how much is read ahead. The guest stands still meanwhile, so few calls.
const bufferSize = 1 << 20

// reader parses the stream. It keeps its first error: from then on everything reads as
// zero, and loops end by looking at err.
type reader struct {
	in     *bufio.Reader
	off    uint64 // in the stream, of the next byte
	sink   Sink
	config []byte // configuration section, without its type byte
	blocks []Block
	index  map[string]int
	block  int    // of the last page: the "continue" flag refers to it; -1 for none
	ramID  uint32 // section number of ram
	ended  bool   // the ram section of the first copy has ended
	silent bool   // no description follows the devices' state
	budget uint64 // pages to come at most before something is wrong
	err    error
}

func newReader(r io.Reader, sink Sink) *reader {
	return &reader{in: bufio.NewReaderSize(r, bufferSize), sink: sink, block: -1}
}

// take returns the next n bytes, at most 64 KiB, valid until the next call.
func (r *reader) take(n int, what string) []byte {
	if b := r.peek(n, what); r.err == nil {
		r.in.Discard(n)
		r.off += uint64(n)
		return b
	}
	return make([]byte, n)
}

func (r *reader) peek(n int, what string) []byte {
	if r.err == nil {
		b, err := r.in.Peek(n)
		if err == nil {
			return b
		}
		r.short(err, uint64(n), what)
	}
	return make([]byte, n)
}

// short records that fewer than n bytes came.
func (r *reader) short(err error, n uint64, what string) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.fail(fmt.Errorf("%w, at byte %d: expected %d bytes of %s", ErrTruncated, r.off, n, what))
		return
	}
	r.fail(fmt.Errorf("%w, at byte %d: expected %d bytes of %s: %w", ErrTruncated, r.off, n, what, err))
}

// fail keeps the first error there is; nil is none.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// wrong records data that should not be there. It is called after the data was taken.
func (r *reader) wrong(format string, args ...any) {
	r.fail(fmt.Errorf("%w, before byte %d: %s", ErrProtocol, r.off, fmt.Sprintf(format, args...)))
}

func (r *reader) u8(what string) byte    { return r.take(1, what)[0] }
func (r *reader) u16(what string) uint16 { return binary.BigEndian.Uint16(r.take(2, what)) }
func (r *reader) u32(what string) uint32 { return binary.BigEndian.Uint32(r.take(4, what)) }
func (r *reader) u64(what string) uint64 { return binary.BigEndian.Uint64(r.take(8, what)) }

// name is a string of at most 255 bytes after its length.
func (r *reader) name(what string) string { return string(r.take(int(r.u8(what)), what)) }

// fill reads len(b) bytes into b.
func (r *reader) fill(b []byte, what string) {
	if r.err != nil {
		return
	}
	if n, err := io.ReadFull(r.in, b); err != nil {
		r.off += uint64(n)
		r.short(err, uint64(len(b)-n), what)
		return
	}
	r.off += uint64(len(b))
}
