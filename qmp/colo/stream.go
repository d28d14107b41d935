package colo

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Errors of a stream that is not what QEMU writes.
var (
	// ErrTruncated: the stream ended inside something.
	ErrTruncated = errors.New("colo: the stream from QEMU ended early")
	// ErrProtocol: the stream has something this reader does not expect there.
	ErrProtocol = errors.New("colo: unexpected data in the stream from QEMU")
)

// Block is one RAM block of a guest, in QEMU's order.
type Block struct {
	Name string
	Size uint64 // bytes
}

// Sink takes memory as it is read. data is valid during the call only.
type Sink interface {
	// Layout comes once, before the first page: the stream's configuration section
	// (needed to restore) and the RAM blocks.
	Layout(configuration []byte, blocks []Block) error
	Page(block int, offset uint64, data []byte) error
	Fill(block int, offset uint64, value byte) error
}

// PageSize is the unit of the ram section: 4096 bytes.
const PageSize = 4096

const (
	fileMagic   = 0x5145564d
	fileVersion = 3

	secEOF     = 0x00
	secStart   = 0x01
	secPart    = 0x02
	secEnd     = 0x03
	secFull    = 0x04
	secSub     = 0x05
	secVMDesc  = 0x06
	secConfig  = 0x07
	secCommand = 0x08
	secFooter  = 0x7e

	ramFill     = 0x02
	ramMemSize  = 0x04
	ramPage     = 0x08
	ramEOS      = 0x10
	ramContinue = 0x20
	ramFlags    = 0xfff

	maxConfig = 64 << 10
	maxDesc   = 16 << 20
	maxBlocks = 1024
)

// reader parses the stream. block is the index of the last page's block: the "continue"
// flag refers to it even across sections.
type reader struct {
	in     *bufio.Reader
	sink   Sink
	config []byte
	blocks []Block
	index  map[string]int
	block  int
	ramID  uint32
	err    error
}

func newReader(r io.Reader, sink Sink) *reader {
	return &reader{in: bufio.NewReaderSize(r, 1<<20), sink: sink, index: map[string]int{}, block: -1}
}

// take returns the next n bytes, valid until the next call. After the first error
// everything reads as zero; callers look at r.err.
func (r *reader) take(n int) []byte {
	if r.err == nil {
		b, err := r.in.Peek(n)
		if err == nil {
			r.in.Discard(n)
			return b
		}
		r.fail(err)
	}
	return make([]byte, n)
}

func (r *reader) fail(err error) {
	if r.err != nil {
		return
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrTruncated
	}
	r.err = err
}

func (r *reader) protocol(format string, args ...any) {
	r.fail(fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...)))
}

func (r *reader) u8() byte    { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) name() string { return string(r.take(int(r.u8()))) }

// copyN returns n bytes of its own, n at most limit.
func (r *reader) copyN(n, limit int, what string) []byte {
	if n > limit {
		r.protocol("%s of %d bytes, at most %d are accepted", what, n, limit)
	}
	if r.err != nil {
		return nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		r.fail(err)
	}
	return b
}

// precopy reads from the file header to the end of the first copy of memory.
func (r *reader) precopy() error {
	if m, v := r.u32(), r.u32(); r.err == nil && (m != fileMagic || v != fileVersion) {
		r.protocol("magic %#x version %d instead of %#x version %d", m, v, fileMagic, fileVersion)
	}
	for r.err == nil {
		switch kind := r.u8(); kind {
		case secConfig:
			r.configuration()
		case secCommand:
			r.command()
		case secStart, secFull:
			if done := r.fullSection(kind); done {
				return r.err
			}
		case secPart, secEnd:
			r.ramSection(r.u32())
		case secEOF:
			return r.vmdesc()
		default:
			r.protocol("section type %#x", kind)
		}
	}
	return r.err
}

func (r *reader) configuration() {
	r.config = r.copyN(int(r.u32()), maxConfig, "configuration section")
}

func (r *reader) command() {
	r.u16()
	r.take(int(r.u16()))
}

// fullSection reads the start of a section. Device sections carry no length: from the
// first of them on, all is skipped up to the description that ends the stream.
func (r *reader) fullSection(kind byte) (done bool) {
	id := r.u32()
	name := r.name()
	r.u32()
	r.u32()
	if name == "ram" && kind == secStart {
		r.ramID = id
		r.ramSection(id)
		return false
	}
	if r.err == nil && kind == secStart {
		r.protocol("iterative section %q: this device migrates in a way that checkpoints do not carry", name)
		return true
	}
	r.skipDevices()
	return true
}

func (r *reader) ramSection(id uint32) {
	if id != r.ramID {
		r.protocol("section %d is not the ram section (%d)", id, r.ramID)
	}
	r.ramPages()
	r.footer(id)
}

func (r *reader) footer(id uint32) {
	if f, got := r.u8(), r.u32(); r.err == nil && (f != secFooter || got != id) {
		r.protocol("footer %#x of section %d after section %d", f, got, id)
	}
}

// ramPages reads words until the end of this run of pages.
func (r *reader) ramPages() {
	for r.err == nil {
		word := r.u64()
		offset, flags := word&^ramFlags, word&ramFlags
		switch flags &^ ramContinue {
		case ramEOS:
			return
		case ramMemSize:
			r.blockList(offset)
		case ramPage, ramFill:
			r.page(offset, flags)
		default:
			if r.err == nil {
				r.protocol("ram flags %#x", flags)
			}
		}
	}
}

func (r *reader) page(offset, flags uint64) {
	if flags&ramContinue == 0 {
		name := r.name()
		i, ok := r.index[name]
		if !ok && r.err == nil {
			r.protocol("page of unknown block %q", name)
		}
		r.block = i
	}
	if r.err != nil {
		return
	}
	if r.block < 0 || offset+PageSize > r.blocks[r.block].Size {
		r.protocol("page at %#x outside of its block", offset)
		return
	}
	if flags&ramFill != 0 {
		if v := r.u8(); r.err == nil {
			r.failIf(r.sink.Fill(r.block, offset, v))
		}
		return
	}
	if data := r.take(PageSize); r.err == nil {
		r.failIf(r.sink.Page(r.block, offset, data))
	}
}

func (r *reader) failIf(err error) {
	if err != nil {
		r.fail(err)
	}
}

func (r *reader) blockList(total uint64) {
	r.blocks, r.index = nil, map[string]int{}
	for sum := uint64(0); sum < total && r.err == nil; {
		b := Block{Name: r.name(), Size: r.u64()}
		if b.Size == 0 || b.Size > total-sum || len(r.blocks) == maxBlocks {
			r.protocol("block %q of %d bytes in a memory of %d", b.Name, b.Size, total)
			return
		}
		r.index[b.Name] = len(r.blocks)
		r.blocks = append(r.blocks, b)
		sum += b.Size
	}
	if r.err == nil {
		r.failIf(r.sink.Layout(r.config, r.blocks))
	}
}

// skipDevices drops opaque device state up to the vmdesc: 0x00 0x06, length, JSON that
// names the page size. Device state may hold such bytes too; the JSON's beginning decides.
func (r *reader) skipDevices() {
	for skipped := 0; r.err == nil; skipped++ {
		if skipped > maxDesc {
			r.protocol("no end of device state within %d bytes", maxDesc)
			return
		}
		b, err := r.in.Peek(8)
		if err != nil {
			r.fail(err)
			return
		}
		if b[0] == secEOF && b[1] == secVMDesc && b[6] == '{' && b[7] == '"' && r.isDesc() {
			r.u8()
			r.failIf(r.vmdesc())
			return
		}
		r.in.Discard(1)
	}
}

func (r *reader) isDesc() bool {
	b, err := r.in.Peek(8 + len(`configuration`))
	return err == nil && (string(b[8:17]) == "configura" || string(b[8:17]) == "page_size")
}

func (r *reader) vmdesc() error {
	if b, err := r.in.Peek(1); err != nil {
		r.fail(err)
		return r.err
	} else if b[0] != secVMDesc {
		return nil
	}
	r.u8()
	if n := r.u32(); n > maxDesc {
		r.protocol("description of %d bytes", n)
	} else if _, err := r.in.Discard(int(n)); err != nil {
		r.fail(err)
	}
	return r.err
}
