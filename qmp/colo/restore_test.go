package colo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// readRestore reads a restore stream as far as its device state, which it returns.
func readRestore(stream []byte, sink Sink) ([]byte, error) {
	r := newReader(bytes.NewReader(stream), sink)
	r.u64("header")
	for r.err == nil && !r.ended {
		r.section(r.peek(1, "section")[0])
	}
	if r.err != nil {
		return nil, r.err
	}
	return io.ReadAll(r.in)
}

// image makes a restore image of what a memory holds.
func image(m *memory, main string, state []byte) RestoreImage {
	return RestoreImage{
		Configuration: m.config, Blocks: m.blocks, MainRAM: main, DeviceState: state,
		Pages: func(yield func(int, uint64, []byte) error) error {
			for i, b := range m.blocks {
				if b.Name == main {
					continue
				}
				for off := uint64(0); off < b.Size; off += PageSize {
					if err := yield(i, off, m.ram[i][off:off+PageSize]); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

func TestRestoreRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &memory{ram: map[int][]byte{}}
		if name := rapid.StringN(0, 20, 40).Draw(t, "machine"); name != "" {
			m.config = new(build).u32(uint32(len(name))).text(name).b
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "blocks") {
			size := uint64(rapid.IntRange(1, 4).Draw(t, "pages")) << 12
			m.blocks = append(m.blocks, Block{fmt.Sprintf("block %d", i), size})
			m.ram[i] = make([]byte, size)
			for p := range size >> 12 {
				copy(m.ram[i][p<<12:], pageOf(byte(rapid.IntRange(0, 2).Draw(t, "value"))))
			}
		}
		main := rapid.SampledFrom(append(m.blocks, Block{})).Draw(t, "main").Name
		state := append(rapid.SliceOf(rapid.Byte()).Draw(t, "state"), 4, 0)
		var out bytes.Buffer
		if err := WriteRestore(&out, image(m, main, state)); err != nil {
			t.Fatal(err)
		}
		got := &memory{limit: 1 << 30}
		rest, err := readRestore(out.Bytes(), got)
		if err != nil || !bytes.Equal(rest, state) || !bytes.Equal(got.config, m.config) {
			t.Fatalf("%v; device state %x of %x, configuration %q of %q", err, rest, state, got.config, m.config)
		}
		for i, b := range m.blocks {
			want := m.ram[i]
			if b.Name == main {
				want = make([]byte, b.Size) // nothing of it in the stream
			}
			if got.blocks[i] != b || !bytes.Equal(got.ram[i], want) {
				t.Fatalf("block %v differs (%v)", b, got.blocks[i])
			}
		}
	})
}

func TestRestoreRefusals(t *testing.T) {
	pages := func(block int, off uint64, data []byte) func(func(int, uint64, []byte) error) error {
		return func(yield func(int, uint64, []byte) error) error { return yield(block, off, data) }
	}
	ok := RestoreImage{
		Blocks: []Block{{"pc.ram", 2 << 12}, {"pc.bios", 1 << 12}}, MainRAM: "pc.ram",
		Pages: pages(1, 0, pageOf(1)), DeviceState: []byte("x\x00"),
	}
	if err := WriteRestore(io.Discard, ok); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*RestoreImage)
		want   string
	}{
		"no blocks":     {func(r *RestoreImage) { r.Blocks = nil }, "no ram blocks"},
		"none at all":   {func(r *RestoreImage) { r.Blocks, r.MainRAM = nil, "" }, "no ram blocks"},
		"other main":    {func(r *RestoreImage) { r.MainRAM = "ram" }, `"ram" is not among`},
		"long name":     {func(r *RestoreImage) { r.Blocks[1].Name = strings.Repeat("x", 256) }, "none QEMU can have"},
		"odd size":      {func(r *RestoreImage) { r.Blocks[1].Size = 100 }, "100 bytes"},
		"no pages":      {func(r *RestoreImage) { r.Pages = nil }, "no pages"},
		"no state":      {func(r *RestoreImage) { r.DeviceState = nil }, "0 bytes of device state"},
		"cut state":     {func(r *RestoreImage) { r.DeviceState = []byte("xy") }, "zero byte"},
		"main's page":   {func(r *RestoreImage) { r.Pages = pages(0, 0, pageOf(1)) }, `page of "pc.ram"`},
		"no such block": {func(r *RestoreImage) { r.Pages = pages(2, 0, pageOf(1)) }, "block number 2"},
		"half a page":   {func(r *RestoreImage) { r.Pages = pages(1, 0, make([]byte, 100)) }, "100 bytes at 0x0"},
		"behind":        {func(r *RestoreImage) { r.Pages = pages(1, 1<<12, pageOf(1)) }, "at 0x1000"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ok
			r.Blocks = append([]Block{}, ok.Blocks...)
			tc.change(&r)
			if err := WriteRestore(io.Discard, r); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %q", err, tc.want)
			}
		})
	}
}

// full is a writer with room for some bytes only.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(b []byte) (int, error) {
	if len(b) > f.room {
		n := f.room
		f.room = 0
		return n, errFull
	}
	f.room -= len(b)
	return len(b), nil
}

func TestRestoreWriteErrors(t *testing.T) {
	m := &memory{ram: map[int][]byte{0: bytes.Repeat([]byte{1}, 1<<20)}, blocks: []Block{{"a", 1 << 20}}}
	for _, room := range []int{0, 100, 300 << 10, 1 << 20} {
		if err := WriteRestore(&full{room}, image(m, "", make([]byte, 300<<10))); !errors.Is(err, errFull) {
			t.Errorf("room for %d: %v", room, err)
		}
	}
}
