package colo

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzStream: whatever comes, a reader ends with its own errors and hands on only pages
// that are inside of a block (memory panics otherwise).
func FuzzStream(f *testing.F) {
	f.Add(small())
	f.Add(new(build).header().config("virt").sub("configuration/target-page-bits").u32(12).ramStart(1<<12).block("m", 1<<12).eos(2).end().b)
	for _, g := range goldens(f) {
		f.Add(g.qemu())
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		m := &memory{limit: 1 << 20}
		err := readAll(bytes.NewReader(stream), m, func(state []byte) {
			if len(state) == 0 || state[len(state)-1] != 0 {
				t.Fatalf("device state %q", state)
			}
		})
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrProtocol) {
			t.Fatal(err)
		}
		if m.layouts > 1 || m.pages+m.fills > len(stream)/9 {
			t.Fatalf("%d layouts, %d pages of %d bytes", m.layouts, m.pages+m.fills, len(stream))
		}
	})
}

// FuzzRestoreIsRead: what WriteRestore writes of a checkpoint is read as what went in.
func FuzzRestoreIsRead(f *testing.F) {
	f.Add([]byte("state"), "pc", []byte{0, 1, 1, 0, 2})
	f.Fuzz(func(t *testing.T, state []byte, config string, values []byte) {
		if len(values) == 0 || len(values) > 64 || len(config) > maxConfig {
			return
		}
		m := &memory{ram: map[int][]byte{0: nil}, blocks: []Block{{"a", uint64(len(values)) << 12}}}
		m.config = new(build).u32(uint32(len(config))).text(config).b
		for _, v := range values {
			m.ram[0] = append(m.ram[0], pageOf(v)...)
		}
		state = append(state, 4, 0)
		var out bytes.Buffer
		if err := WriteRestore(&out, image(m, "", state)); err != nil {
			t.Fatal(err)
		}
		got := &memory{limit: 1 << 20}
		rest, err := readRestore(out.Bytes(), got)
		if err != nil || !bytes.Equal(rest, state) || !bytes.Equal(got.ram[0], m.ram[0]) {
			t.Fatalf("%v", err)
		}
	})
}
