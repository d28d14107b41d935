package colo

import (
	"encoding/binary"
)

// Block is one RAM block of a guest, in QEMU's order.
type Block struct {
	Name string
	Size uint64 // bytes, a multiple of PageSize
}

// Sink takes memory as it is read. data is valid during the call only. An error ends
// what is being read and comes back from it as it is. A call must return in bounded time,
// as the guest may stand still meanwhile.
type Sink interface {
	// Layout comes once, in Arm, before the first page: the configuration section as
	// WriteRestore wants it, and the RAM blocks. Both are the sink's to keep, not to change.
	Layout(configuration []byte, blocks []Block) error
	// Page is one page of PageSize bytes at a multiple of that within its block.
	Page(block int, offset uint64, data []byte) error
	// Fill is a page whose every byte has one value.
	Fill(block int, offset uint64, value byte) error
}

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

	// commandPackaged announces data of its own, of postcopy; all other commands can be
	// skipped by their length.
	commandPackaged = 6

	maxConfig = 64 << 10
)

// precopy reads from the file header to the end of the first copy of memory, which the
// description of the devices' state follows.
func (r *reader) precopy() error {
	if m, v := r.u32("the file's magic"), r.u32("the file's version"); r.err == nil && (m != fileMagic || v != fileVersion) {
		r.wrong("file magic %#x version %d, expected %#x version %d", m, v, fileMagic, fileVersion)
	}
	for r.err == nil {
		switch kind := r.peek(1, "a section")[0]; kind {
		case secFull, secEOF:
			r.devices()
			return r.err
		default:
			r.section(kind)
		}
	}
	return r.err
}

func (r *reader) section(kind byte) {
	if r.take(1, "a section"); r.err != nil {
		return
	}
	switch kind {
	case secConfig:
		r.configuration()
	case secStart:
		r.startSection()
	case secCommand, secPart, secEnd:
		r.runSection(kind)
	default:
		r.wrong("section of type %#x, expected configuration, command or ram", kind)
	}
}

// runSection is a section that checkpoints have, too.
func (r *reader) runSection(kind byte) {
	if kind == secCommand {
		if c := r.u16("a command"); c == commandPackaged {
			r.wrong("a package of postcopy")
		}
		r.take(int(r.u16("a command's length")), "a command's data")
		return
	}
	if r.blocks == nil {
		r.wrong("section of type %#x, expected the start of ram first", kind)
		return
	}
	if id := r.u32("a section's number"); id != r.ramID {
		r.wrong("section %d goes on, expected ram (%d)", id, r.ramID)
	}
	r.ramWords()
	r.footer(r.ramID)
	r.ended = r.ended || kind == secEnd
}

// startSection: ram is the only section in parts whose later parts checkpoints bring.
func (r *reader) startSection() {
	id, name := r.u32("a section's number"), r.name("a section's name")
	r.u32("a section's instance")
	version := r.u32("a section's version")
	switch {
	case r.err != nil:
		return
	case name != "ram":
		r.wrong("device %q moves in parts, which checkpoints do not carry; a guest with it cannot be protected", name)
	case version != ramVersion:
		r.wrong("ram in version %d, expected %d", version, ramVersion)
	case r.blocks != nil:
		r.wrong("a second start of ram")
	default:
		r.ramID = id
		r.layout()
		r.ramWords()
		r.footer(id)
	}
}

func (r *reader) footer(id uint32) {
	if f, got := r.u8("a section's footer"), r.u32("a section's footer"); r.err == nil && (f != secFooter || got != id) {
		r.wrong("footer %#x of section %d, expected %#x of %d", f, got, secFooter, id)
	}
}

// configuration keeps the section as it is. Its subsections have no length, so only those
// that QEMU is known to write can be read (migration/savevm.c, vmstate_configuration).
func (r *reader) configuration() {
	if r.config != nil {
		r.wrong("a second configuration section")
		return
	}
	n := binary.BigEndian.Uint32(r.keep(4))
	if n > maxConfig {
		r.wrong("machine name of %d bytes, at most %d are accepted", n, maxConfig)
		return
	}
	r.keep(int(n))
	for r.err == nil && r.peek(1, "a section")[0] == secSub {
		r.subsection()
	}
}

func (r *reader) subsection() {
	r.keep(1)
	name := string(r.keep(int(r.keep(1)[0])))
	r.keep(4) // version
	switch name {
	case "configuration/target-page-bits":
		if bits := binary.BigEndian.Uint32(r.keep(4)); r.err == nil && 1<<min(bits, 63) != PageSize {
			r.wrong("pages of 2^%d bytes, expected %d", bits, PageSize)
		}
	case "configuration/capabilities":
		for n := binary.BigEndian.Uint32(r.keep(4)); n > 0 && r.err == nil; n-- {
			r.keep(int(r.keep(1)[0]))
		}
	case "configuration/uuid":
		r.keep(16)
	default:
		r.wrong("subsection %q of the configuration is not known", name)
	}
}

// keep takes n bytes of the configuration.
func (r *reader) keep(n int) []byte {
	b := r.take(n, "the configuration")
	if len(r.config)+n > 2*maxConfig {
		r.wrong("configuration of more than %d bytes", 2*maxConfig)
	}
	if r.err == nil {
		r.config = append(r.config, b...)
	}
	return b
}
