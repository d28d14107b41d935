package colo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// memory is a Sink that keeps everything.
type memory struct {
	config []byte
	blocks [][]byte
}

func (m *memory) Layout(c []byte, blocks []Block) error {
	m.config = c
	for _, b := range blocks {
		m.blocks = append(m.blocks, make([]byte, b.Size))
	}
	return nil
}

func (m *memory) Page(b int, off uint64, data []byte) error {
	copy(m.blocks[b][off:], data)
	return nil
}

func (m *memory) Fill(b int, off uint64, v byte) error {
	copy(m.blocks[b][off:], bytes.Repeat([]byte{v}, PageSize))
	return nil
}

var testBlocks = []Block{{"pc.ram", 8 * PageSize}, {"vga.vram", 2 * PageSize}, {"pc.bios", PageSize}}

func testImage() (RestoreImage, [][]byte) {
	want := [][]byte{make([]byte, 8*PageSize), bytes.Repeat([]byte{7}, 2*PageSize), bytes.Repeat([]byte{9}, PageSize)}
	return RestoreImage{
		Configuration: []byte("pc-i440fx-10.0"), Blocks: testBlocks, DeviceState: []byte{secEOF},
		Pages: func(yield func(int, uint64, []byte) error) error {
			for b := 1; b < 3; b++ {
				for off := uint64(0); off < testBlocks[b].Size; off += PageSize {
					if err := yield(b, off, want[b][off:][:PageSize]); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}, want
}

func restoreStream(t testing.TB) ([]byte, [][]byte) {
	image, want := testImage()
	var b bytes.Buffer
	if err := WriteRestore(&b, image); err != nil {
		t.Fatal(err)
	}
	// what follows the EOF byte in a stream of QEMU's own
	b.Write(binary.BigEndian.AppendUint32([]byte{secVMDesc}, 2))
	b.WriteString("{}")
	return b.Bytes(), want
}

func TestRestoreStreamReadsBack(t *testing.T) {
	stream, want := restoreStream(t)
	m := &memory{}
	if err := newReader(bytes.NewReader(stream), m).precopy(); err != nil {
		t.Fatal(err)
	}
	if string(m.config) != "pc-i440fx-10.0" {
		t.Errorf("configuration %q", m.config)
	}
	for i := range want {
		if !bytes.Equal(m.blocks[i], want[i]) {
			t.Errorf("block %s differs", testBlocks[i].Name)
		}
	}
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	stream, _ := restoreStream(t)
	for n := 0; n < len(stream); n += 1 + n/512 { // each octet of the headers, then samples
		err := newReader(bytes.NewReader(stream[:n]), &memory{}).precopy()
		if !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d octets: %v, want ErrTruncated", n, len(stream), err)
		}
	}
}

func TestPageOutsideOfItsBlock(t *testing.T) {
	image, _ := testImage()
	image.Pages = func(yield func(int, uint64, []byte) error) error {
		return yield(2, PageSize, make([]byte, PageSize))
	}
	var b bytes.Buffer
	if err := WriteRestore(&b, image); err != nil {
		t.Fatal(err)
	}
	if err := newReader(&b, &memory{}).precopy(); !errors.Is(err, ErrProtocol) {
		t.Fatalf("%v, want ErrProtocol", err)
	}
}

// FuzzPrecopy: whatever QEMU sends, the reader ends with an error or a whole copy, and
// takes no more memory than the stream itself claims in small pieces.
func FuzzPrecopy(f *testing.F) {
	stream, _ := restoreStream(f)
	f.Add(stream)
	f.Add(stream[:200])
	f.Fuzz(func(_ *testing.T, data []byte) {
		newReader(bytes.NewReader(data), drain{}).precopy()
	})
}
