package colo

import (
	"bufio"
	"encoding/binary"
	"io"
)

// RestoreImage is what a checkpoint consists of, beside the main RAM, which the restored
// QEMU finds in its own RAM file.
type RestoreImage struct {
	Configuration []byte
	Blocks        []Block
	// Pages yields every page of every block but the main RAM.
	Pages       func(yield func(block int, offset uint64, data []byte) error) error
	DeviceState []byte // the last checkpoint's, ending in the EOF byte
}

// WriteRestore writes r as an ordinary migration stream. QEMU logs that it misses the
// description section at the end and goes on.
func WriteRestore(w io.Writer, r RestoreImage) error {
	b := bufio.NewWriterSize(w, 256<<10)
	be := binary.BigEndian
	var h []byte
	h = be.AppendUint32(h, fileMagic)
	h = be.AppendUint32(h, fileVersion)
	if r.Configuration != nil {
		h = append(h, secConfig)
		h = be.AppendUint32(h, uint32(len(r.Configuration)))
		h = append(h, r.Configuration...)
	}
	h = appendRAMStart(h, r.Blocks)
	h = append(h, secEnd)
	h = be.AppendUint32(h, ramSectionID)
	if _, err := b.Write(h); err != nil {
		return err
	}
	last := -1
	err := r.Pages(func(block int, offset uint64, data []byte) error {
		var p []byte
		if block == last {
			p = be.AppendUint64(p, offset|ramPage|ramContinue)
		} else {
			p = be.AppendUint64(p, offset|ramPage)
			p = appendName(p, r.Blocks[block].Name)
			last = block
		}
		if _, err := b.Write(p); err != nil {
			return err
		}
		_, err := b.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := b.Write(appendRAMEnd(nil)); err != nil {
		return err
	}
	if _, err := b.Write(r.DeviceState); err != nil {
		return err
	}
	return b.Flush()
}

// ramSectionID is any number no device section of the state uses; QEMU numbers from 0.
const ramSectionID = 0xffff

func appendRAMStart(h []byte, blocks []Block) []byte {
	be := binary.BigEndian
	h = append(h, secStart)
	h = be.AppendUint32(h, ramSectionID)
	h = appendName(h, "ram")
	h = be.AppendUint32(h, 0) // instance
	h = be.AppendUint32(h, 4) // version
	var total uint64
	for _, b := range blocks {
		total += b.Size
	}
	h = be.AppendUint64(h, total|ramMemSize)
	for _, b := range blocks {
		h = appendName(h, b.Name)
		h = be.AppendUint64(h, b.Size)
	}
	return appendRAMEnd(h)
}

func appendRAMEnd(h []byte) []byte {
	h = binary.BigEndian.AppendUint64(h, ramEOS)
	h = append(h, secFooter)
	return binary.BigEndian.AppendUint32(h, ramSectionID)
}

func appendName(h []byte, name string) []byte { return append(append(h, byte(len(name))), name...) }
