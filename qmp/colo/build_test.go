package colo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// build puts a stream together by hand, as QEMU's sources say it is.
type build struct{ b []byte }

func (s *build) u8(v byte) *build     { s.b = append(s.b, v); return s }
func (s *build) u16(v uint16) *build  { s.b = binary.BigEndian.AppendUint16(s.b, v); return s }
func (s *build) u32(v uint32) *build  { s.b = binary.BigEndian.AppendUint32(s.b, v); return s }
func (s *build) u64(v uint64) *build  { s.b = binary.BigEndian.AppendUint64(s.b, v); return s }
func (s *build) raw(b []byte) *build  { s.b = append(s.b, b...); return s }
func (s *build) text(t string) *build { s.b = append(s.b, t...); return s }
func (s *build) name(t string) *build { return s.u8(byte(len(t))).text(t) }

func (s *build) header() *build           { return s.u32(0x5145564d).u32(3) }
func (s *build) config(n string) *build   { return s.u8(7).u32(uint32(len(n))).text(n) }
func (s *build) sub(n string) *build      { return s.u8(5).name(n).u32(1) }
func (s *build) command(n uint16) *build  { return s.u8(8).u16(n).u16(2).u16(0) }
func (s *build) footer(id uint32) *build  { return s.u8(0x7e).u32(id) }
func (s *build) eos(id uint32) *build     { return s.u64(0x10).footer(id) }
func (s *build) section(t byte) *build    { return s.u8(t).u32(2) }
func (s *build) ramStart(t uint64) *build { return s.section(1).name("ram").u32(0).u32(4).u64(t | 4) }
func (s *build) block(n string, size uint64) *build {
	return s.name(n).u64(size)
}
func (s *build) full(name string) *build {
	return s.u8(4).u32(9).name(name).u32(0).u32(1).text("device state")
}
func (s *build) desc(t string) *build { return s.u8(0).u8(6).u32(uint32(len(t))).text(t) }

// begin is a stream up to the block list of a guest of two blocks.
func begin() *build {
	return new(build).header().config("pc-i440fx-11.1").command(1).
		ramStart(5<<12).block("pc.ram", 4<<12).block("pc.bios", 1<<12).eos(2)
}

const okDesc = `{"configuration": {"vmsd_name": "configuration"}, "page_size": 4096, "devices": []}`

// end is the rest of a first copy.
func (s *build) end() *build { return s.section(3).eos(2).full("cpu").desc(okDesc) }

// epoch is a checkpoint of one page of pc.ram.
func (s *build) epoch(page []byte, state string) *build {
	s.u32(1).u32(3).command(8)
	s.section(3).u64(0x1000 | 8).name("pc.ram").raw(page).eos(2).u8(0)
	return s.u32(4).u64(uint64(len(state))).text(state)
}

func pageOf(v byte) []byte { return bytes.Repeat([]byte{v}, PageSize) }

// small is a whole short stream: a first copy and two checkpoints.
func small() []byte {
	s := begin()
	s.section(2).u64(0x0000 | 8).name("pc.ram").raw(pageOf(1)).u64(0x2000 | 2 | 0x20).u8(0).eos(2)
	s.section(2).u64(0x3000 | 8 | 0x20).raw(pageOf(2)).u64(8).name("pc.bios").raw(pageOf(3)).eos(2)
	s.command(8).end()
	return s.epoch(pageOf(4), "one\x00").epoch(pageOf(5), "two\x00").b
}

// memory is a Sink that keeps all, and that sees what a reader must never hand on.
type memory struct {
	config       []byte
	blocks       []Block
	ram          map[int][]byte
	limit        uint64 // of memory to keep; 0 for none at all
	layouts      int
	pages, fills int
}

func (m *memory) Layout(config []byte, blocks []Block) error {
	m.layouts++
	m.config, m.blocks, m.ram = config, blocks, map[int][]byte{}
	var total uint64
	for i, b := range blocks {
		if total += b.Size; total > m.limit {
			return nil
		}
		m.ram[i] = make([]byte, b.Size)
	}
	return nil
}

func (m *memory) check(block int, offset uint64) error {
	if block < 0 || block >= len(m.blocks) || offset%PageSize != 0 || offset > m.blocks[block].Size-PageSize {
		panic(fmt.Sprintf("page at %#x of block %d of %v", offset, block, m.blocks))
	}
	return nil
}

func (m *memory) Page(block int, offset uint64, data []byte) error {
	m.pages++
	if len(data) != PageSize {
		panic(fmt.Sprintf("page of %d bytes", len(data)))
	}
	if r, ok := m.ram[block]; m.check(block, offset) == nil && ok {
		copy(r[offset:], data)
	}
	return nil
}

func (m *memory) Fill(block int, offset uint64, value byte) error {
	m.fills++
	if r, ok := m.ram[block]; m.check(block, offset) == nil && ok {
		for i := range r[offset : offset+PageSize] {
			r[offset+uint64(i)] = value
		}
	}
	return nil
}

// readAll reads everything QEMU sends in a session, until it ends between checkpoints.
func readAll(in io.Reader, sink Sink, each func(deviceState []byte)) error {
	return readSession(newReader(in, sink), sink, each)
}

func readSession(r *reader, sink Sink, each func(deviceState []byte)) error {
	if err := r.precopy(); err != nil {
		return err
	}
	var state []byte
	for {
		if _, err := r.in.Peek(1); err == io.EOF {
			return nil
		}
		err := r.expect(msgRequest)
		if err == nil {
			err = r.expect(msgVMStateSend)
		}
		if err == nil {
			err = r.checkpoint(sink)
		}
		if err == nil {
			state, err = r.deviceState(state)
		}
		if err != nil {
			return err
		}
		if each != nil {
			each(state)
		}
	}
}
