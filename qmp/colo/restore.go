package colo

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// RestoreImage is what a checkpoint consists of, beside the main RAM, which the restored
// QEMU finds in its own RAM file.
type RestoreImage struct {
	Configuration []byte  // as the first copy brought it
	Blocks        []Block // all of them, the main RAM too, in QEMU's order
	MainRAM       string  // the block that Pages leaves out; "" for none
	// Pages yields every page of every other block. Zero pages matter as well: the new
	// QEMU has put its own firmware there.
	Pages       func(yield func(block int, offset uint64, data []byte) error) error
	DeviceState []byte // the last checkpoint's, ending in the EOF byte
}

// ramSectionID is any number no device section of the state uses; QEMU numbers from 0.
const ramSectionID = 0xffff

// WriteRestore writes r as an ordinary migration stream: header, configuration, ram in one
// start and one end section, device state. QEMU logs that it misses the description at the
// end ("Expected vmdescription section") and goes on.
func WriteRestore(w io.Writer, r RestoreImage) error {
	if err := r.check(); err != nil {
		return err
	}
	out := restoreWriter{image: r, w: bufio.NewWriterSize(w, 256<<10), last: -1}
	out.start()
	if err := r.Pages(out.page); err != nil {
		return fmt.Errorf("colo: restore: pages: %w", err)
	}
	out.b = appendRAMEnd(out.b)
	out.flush()
	out.w.Write(r.DeviceState)
	if err := out.w.Flush(); err != nil {
		return fmt.Errorf("colo: restore: %w", err)
	}
	return nil
}

func (r RestoreImage) check() error {
	main := r.MainRAM == ""
	for _, b := range r.Blocks {
		if b.Name == "" || len(b.Name) > 255 || b.Size == 0 || b.Size%PageSize != 0 {
			return fmt.Errorf("colo: restore: block %.300q of %d bytes is none QEMU can have", b.Name, b.Size)
		}
		main = main || b.Name == r.MainRAM
	}
	switch {
	case len(r.Blocks) == 0:
		return fmt.Errorf("colo: restore: no ram blocks")
	case !main:
		return fmt.Errorf("colo: restore: main ram %q is not among the blocks", r.MainRAM)
	case r.Pages == nil:
		return fmt.Errorf("colo: restore: no pages")
	case len(r.DeviceState) < 2 || r.DeviceState[len(r.DeviceState)-1] != secEOF:
		return fmt.Errorf("colo: restore: %d bytes of device state, expected some with a zero byte at their end", len(r.DeviceState))
	}
	return nil
}

// restoreWriter collects small things in b and hands them on with the next page; w keeps
// its first error.
type restoreWriter struct {
	image RestoreImage
	w     *bufio.Writer
	b     []byte
	last  int // block of the last page; -1 for none
}

func (o *restoreWriter) flush() error {
	_, err := o.w.Write(o.b)
	o.b = o.b[:0]
	return err
}

func (o *restoreWriter) start() {
	be := binary.BigEndian
	o.b = be.AppendUint32(o.b, fileMagic)
	o.b = be.AppendUint32(o.b, fileVersion)
	if len(o.image.Configuration) > 0 {
		o.b = append(o.b, secConfig)
		o.b = append(o.b, o.image.Configuration...)
	}
	o.b = append(o.b, secStart)
	o.b = be.AppendUint32(o.b, ramSectionID)
	o.b = appendName(o.b, "ram")
	o.b = be.AppendUint32(o.b, 0) // instance
	o.b = be.AppendUint32(o.b, ramVersion)
	var total uint64
	for _, b := range o.image.Blocks {
		total += b.Size
	}
	o.b = be.AppendUint64(o.b, total|ramMemSize)
	for _, b := range o.image.Blocks {
		o.b = appendName(o.b, b.Name)
		o.b = be.AppendUint64(o.b, b.Size)
	}
	o.b = appendRAMEnd(o.b)
	o.b = append(o.b, secEnd)
	o.b = be.AppendUint32(o.b, ramSectionID)
}

var zeroPage [PageSize]byte

func (o *restoreWriter) page(block int, offset uint64, data []byte) error {
	if err := o.checkPage(block, offset, data); err != nil {
		return err
	}
	flags, zero := uint64(ramPage), bytes.Equal(data, zeroPage[:])
	if zero {
		flags = ramFill
	}
	if block == o.last {
		flags |= ramContinue
	}
	o.b = binary.BigEndian.AppendUint64(o.b, offset|flags)
	if block != o.last {
		o.b = appendName(o.b, o.image.Blocks[block].Name)
		o.last = block
	}
	if zero {
		o.b = append(o.b, 0)
		return o.flush()
	}
	o.flush()
	_, err := o.w.Write(data)
	return err
}

func (o *restoreWriter) checkPage(block int, offset uint64, data []byte) error {
	if block < 0 || block >= len(o.image.Blocks) {
		return fmt.Errorf("page of block number %d, there are %d", block, len(o.image.Blocks))
	}
	b := o.image.Blocks[block]
	switch {
	case b.Name == o.image.MainRAM:
		return fmt.Errorf("page of %q, which QEMU finds in its own file", b.Name)
	case len(data) != PageSize || offset%PageSize != 0 || offset > b.Size-PageSize:
		return fmt.Errorf("%d bytes at %#x of block %q (%#x bytes), expected one page", len(data), offset, b.Name, b.Size)
	}
	return nil
}

func appendRAMEnd(h []byte) []byte {
	h = binary.BigEndian.AppendUint64(h, ramEOS)
	h = append(h, secFooter)
	return binary.BigEndian.AppendUint32(h, ramSectionID)
}

func appendName(h []byte, name string) []byte { return append(append(h, byte(len(name))), name...) }
