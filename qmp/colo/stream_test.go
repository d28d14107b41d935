package colo

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadSmall(t *testing.T) {
	for name, in := range map[string]io.Reader{
		"whole": bytes.NewReader(small()), "bytewise": iotest.OneByteReader(bytes.NewReader(small())),
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{limit: 1 << 20}
			var states []string
			if err := readAll(in, m, func(b []byte) { states = append(states, string(b)) }); err != nil {
				t.Fatal(err)
			}
			if want := "\x00\x00\x00\x0epc-i440fx-11.1"; string(m.config) != want {
				t.Errorf("configuration %q, want %q", m.config, want)
			}
			if len(m.blocks) != 2 || m.blocks[0] != (Block{"pc.ram", 4 << 12}) || m.blocks[1] != (Block{"pc.bios", 1 << 12}) {
				t.Errorf("blocks %v", m.blocks)
			}
			for i, v := range []byte{1, 5, 0, 2} {
				if !bytes.Equal(m.ram[0][i<<12:(i+1)<<12], pageOf(v)) {
					t.Errorf("page %d of pc.ram is not all %d", i, v)
				}
			}
			if !bytes.Equal(m.ram[1], pageOf(3)) {
				t.Error("pc.bios is not all 3: the block of a page was lost")
			}
			if strings.Join(states, ",") != "one\x00,two\x00" || m.pages != 5 || m.fills != 1 || m.layouts != 1 {
				t.Errorf("states %q, %d pages, %d fills, %d layouts", states, m.pages, m.fills, m.layouts)
			}
		})
	}
}

// The "continue" flag of a checkpoint refers to the last page of the one before.
func TestContinueAcrossCheckpoints(t *testing.T) {
	s := begin().end()
	s.epoch(pageOf(1), "x\x00")
	s.u32(1).u32(3).section(3).u64(0x2000 | 8 | 0x20).raw(pageOf(2)).eos(2).u8(0).u32(4).u64(2).text("y\x00")
	m := &memory{limit: 1 << 20}
	if err := readAll(bytes.NewReader(s.b), m, nil); err != nil || m.ram[0][0x2000] != 2 {
		t.Fatalf("%v, %d", err, m.ram[0][0x2000])
	}
}

func TestConfigurationIsKeptWhole(t *testing.T) {
	s := new(build).header().config("virt-11.1").
		sub("configuration/target-page-bits").u32(12).
		sub("configuration/capabilities").u32(2).name("x-ignore-shared").name("mapped-ram").
		sub("configuration/uuid").text("0123456789abcdef")
	want := bytes.Clone(s.b[9:])
	s.ramStart(1<<12).block("mem", 1<<12).eos(2).end()
	m := &memory{}
	if err := readAll(bytes.NewReader(s.b), m, nil); err != nil || !bytes.Equal(m.config, want) {
		t.Fatalf("%v, configuration %q, want %q", err, m.config, want)
	}
}

func TestDeviceStateIsSkippedToItsDescription(t *testing.T) {
	for name, state := range map[string]string{
		"zeros": strings.Repeat("\x00", 5000), "types": "\x00\x06\x00\x00\x00\x05{\"conf", "early": "\x00\x00\x06\x00\x06", "none": "",
	} {
		s := begin().section(3).eos(2).u8(4).text(state).desc(okDesc).epoch(pageOf(1), "x\x00")
		n := 0
		if err := readAll(bytes.NewReader(s.b), &memory{}, func([]byte) { n++ }); err != nil || n != 1 {
			t.Errorf("%s: %d checkpoints, %v", name, n, err)
		}
	}
	s := begin().section(3).eos(2).desc(`{"page_size": 4096, "devices": [], "more": []}`)
	if err := readAll(bytes.NewReader(s.b), &memory{}, nil); err != nil {
		t.Errorf("no devices, older description: %v", err)
	}
}

func TestProtocolErrors(t *testing.T) {
	page := func(s *build) *build { return s.raw(pageOf(0)) }
	for name, tc := range map[string]struct {
		stream *build
		want   string
	}{
		"magic":             {new(build).u32(0x1234).u32(3), "file magic 0x1234"},
		"version":           {new(build).u32(0x5145564d).u32(2), "version 2"},
		"section type":      {new(build).header().u8(0x42), "type 0x42"},
		"long name":         {new(build).header().u8(7).u32(1 << 20), "machine name of 1048576 bytes"},
		"two configs":       {new(build).header().config("a").config("b"), "second configuration"},
		"subsection":        {new(build).header().config("a").sub("configuration/new"), `"configuration/new"`},
		"page bits":         {new(build).header().config("a").sub("configuration/target-page-bits").u32(16), "2^16"},
		"postcopy":          {begin().command(6), "postcopy"},
		"ram goes on first": {new(build).header().section(2), "start of ram first"},
		"ram version":       {new(build).header().section(1).name("ram").u32(0).u32(3), "ram in version 3"},
		"second ram":        {begin().ramStart(1), "second start"},
		"vfio":              {begin().u8(1).u32(7).name("0000:00:04.0/vfio").u32(0).u32(1), "vfio"},
		"early device":      {begin().full("virtio-mem"), `"virtio-mem" comes before`},
		"other section":     {begin().u8(2).u32(7), "section 7 goes on"},
		"footer":            {begin().section(2).u64(0x10).footer(3), "footer 0x7e of section 3"},
		"no footer":         {begin().section(2).u64(0x10).u8(2).u32(2), "footer 0x2"},
		"no size":           {new(build).header().section(1).name("ram").u32(0).u32(4).u64(1 << 12), "expected the size"},
		"empty ram":         {new(build).header().ramStart(0), "expected the size"},
		"block too large":   {new(build).header().ramStart(1<<12).block("a", 2<<12), "8192 bytes"},
		"half a page":       {new(build).header().ramStart(1<<12).block("a", 100), "100 bytes"},
		"block of nothing":  {new(build).header().ramStart(1<<12).block("a", 0), "whole pages"},
		"nameless block":    {new(build).header().ramStart(1<<12).block("", 1<<12), "not used yet"},
		"same block":        {new(build).header().ramStart(2<<12).block("a", 1<<12).block("a", 1<<12), `"a"`},
		"flags":             {begin().section(2).u64(0x1000 | 0x40), "ram flags 0x40"},
		"unknown block":     {page(begin().section(2).u64(8).name("b")), `block "b"`},
		"no last page":      {page(begin().section(2).u64(8 | 0x20)), "there was none"},
		"behind the block":  {page(begin().section(2).u64(0x4000 | 8).name("pc.ram")), "page at 0x4000"},
		"wraps around":      {page(begin().section(2).u64(^uint64(0xfff) | 8).name("pc.ram")), "page at 0xfffffffffffff000"},
		"desc length":       {begin().section(3).eos(2).u8(0).u8(6).u32(17 << 20).text(okDesc), "description of"},
		"desc no JSON":      {begin().section(3).eos(2).desc(`{"configuration": {"vmsd_name": oops}, "page_size"`), "not JSON"},
		"wrong message":     {begin().end().u32(4), "COLO message 4, expected 1"},
		"not stopped":       {begin().end().u32(1).u32(4), "COLO message 4, expected 3"},
		"device in epoch":   {begin().end().u32(1).u32(3).full("cpu"), "type 0x4 in a checkpoint"},
		"start in epoch":    {begin().end().u32(1).u32(3).ramStart(1), "type 0x1 in a checkpoint"},
		"huge state":        {begin().end().u32(1).u32(3).u8(0).u32(4).u64(1 << 40), "1099511627776 bytes"},
		"state has no end":  {begin().end().u32(1).u32(3).u8(0).u32(4).u64(3).text("abc"), "zero byte"},
		"empty state":       {begin().end().u32(1).u32(3).u8(0).u32(4).u64(0), "zero byte"},
		"endless pages":     {endless(), "more pages in a checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			err := readAll(bytes.NewReader(tc.stream.raw(make([]byte, 64)).b), &memory{}, nil)
			if !errors.Is(err, ErrProtocol) || errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %q", err, tc.want)
			}
			if !strings.Contains(err.Error(), "byte ") {
				t.Errorf("%v does not say where", err)
			}
		})
	}
}

// endless sends the same page more often in one checkpoint than any guest could dirty it.
func endless() *build {
	s := begin().end().u32(1).u32(3).section(3)
	for range 11 {
		s.u64(0x1000 | 2).name("pc.ram").u8(0)
	}
	return s
}

func TestTooManyBlocks(t *testing.T) {
	s := new(build).header().ramStart(2000 << 12)
	for i := range 1100 {
		s.block(strings.Repeat("x", i%250+1)+string(rune('a'+i/250)), 1<<12)
	}
	if err := readAll(bytes.NewReader(s.b), &memory{}, nil); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "1024") {
		t.Fatal(err)
	}
}

// failing is a Sink that refuses at one point.
type failing struct {
	memory
	at  string
	err error
}

func (f *failing) when(at string) error {
	if f.at == at {
		return f.err
	}
	return nil
}

func (f *failing) Layout([]byte, []Block) error   { return f.when("layout") }
func (f *failing) Page(int, uint64, []byte) error { return f.when("page") }
func (f *failing) Fill(int, uint64, byte) error   { return f.when("fill") }

func TestSinkErrorsComeBack(t *testing.T) {
	for _, at := range []string{"layout", "page", "fill"} {
		full := errors.New("replica is full")
		if err := readAll(bytes.NewReader(small()), &failing{at: at, err: full}, nil); err != full {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// sections lists the offsets at which something ends in a whole stream.
func sections(t *testing.T, stream []byte) (ends []int, between map[int]bool) {
	t.Helper()
	between = map[int]bool{}
	r := newReader(bytes.NewReader(stream), drain{})
	mark := func() { ends = append(ends, int(r.off)) }
	r.u64("header")
	for mark(); r.err == nil; mark() {
		if kind := r.peek(1, "section")[0]; kind == secFull || kind == secEOF {
			r.devices()
			break
		} else {
			r.section(kind)
		}
	}
	r.budget = ^uint64(0)
	for mark(); r.err == nil && int(r.off) < len(stream); {
		between[int(r.off)] = true
		for range 2 {
			r.u32("message")
			mark()
		}
		for kind := r.u8("section"); kind != secEOF && r.err == nil; kind = r.u8("section") {
			r.runSection(kind)
			mark()
		}
		mark()
		r.deviceState(nil)
		mark()
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	between[len(stream)] = true
	return ends, between
}

// truncations cuts a stream at each place given: that must be seen for what it is.
func truncations(t *testing.T, stream []byte, at []int, between map[int]bool) {
	t.Helper()
	for _, n := range at {
		if n < 0 || n > len(stream) || between[n] {
			continue
		}
		err := readAll(bytes.NewReader(stream[:n]), drain{}, nil)
		if !errors.Is(err, ErrTruncated) || errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "at byte") {
			t.Fatalf("cut at %d of %d: %v", n, len(stream), err)
		}
	}
}

func TestTruncatedEverywhere(t *testing.T) {
	stream := small()
	_, between := sections(t, stream)
	all := make([]int, len(stream))
	for i := range all {
		all[i] = i
	}
	truncations(t, stream, all, between)
}

func TestBrokenConnectionIsTruncation(t *testing.T) {
	reset := errors.New("connection reset by peer")
	err := readAll(io.MultiReader(bytes.NewReader(small()[:5000]), iotest.ErrReader(reset)), drain{}, nil)
	if !errors.Is(err, ErrTruncated) || !errors.Is(err, reset) || !strings.Contains(err.Error(), "of a page") {
		t.Fatal(err)
	}
}

func TestNoAllocationPerPage(t *testing.T) {
	s := new(build).section(3).u64(8).name("pc.ram").raw(pageOf(7))
	for range 10000 {
		s.u64(8 | 0x20).raw(pageOf(7)).u64(0x1000 | 2).name("pc.ram").u8(0)
	}
	s.eos(2).u8(0)
	got := testing.AllocsPerRun(3, func() {
		r := newReader(bytes.NewReader(s.b), drain{})
		r.blocks, r.index, r.ramID = []Block{{"pc.ram", 1 << 40}}, map[string]int{"pc.ram": 0}, 2
		if err := r.checkpoint(drain{}); err != nil {
			t.Fatal(err)
		}
	})
	if got > 20 {
		t.Fatalf("%v allocations for 20000 pages", got)
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	s := new(build).section(3).u64(8).name("pc.ram").raw(pageOf(7))
	for i := range 4096 {
		s.u64(uint64(i)<<12 | 8 | 0x20).raw(pageOf(7))
	}
	s.eos(2).u8(0)
	b.SetBytes(int64(len(s.b)))
	for b.Loop() {
		r := newReader(bytes.NewReader(s.b), drain{})
		r.blocks, r.index, r.ramID = []Block{{"pc.ram", 1 << 40}}, map[string]int{"pc.ram": 0}, 2
		if err := r.checkpoint(drain{}); err != nil {
			b.Fatal(err)
		}
	}
}
