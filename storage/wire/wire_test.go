package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzReadFrame: whatever comes in, the reader returns an error or a frame that fits its limit.
func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, TypeBegin, make([]byte, 8)))
	f.Add(appendFrame(nil, TypePages, appendRecord(nil, 1, 1, 0, 4096)))
	f.Add([]byte("HMGR"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, buf := bytes.NewReader(data), []byte(nil)
		for {
			typ, p, err := readFrame(r, &buf)
			if err != nil {
				return
			}
			if len(p) > limitOf(typ) {
				t.Fatalf("%d bytes of type %d", len(p), typ)
			}
			if typ == TypePages {
				ParsePages(p, func(Page) error { return nil })
			}
		}
	})
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	whole := appendFrame(nil, TypeDeviceState, []byte("state of devices"))
	for n := 1; n < len(whole); n++ {
		var buf []byte
		if _, _, err := readFrame(bytes.NewReader(whole[:n]), &buf); !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d octets: %v, want ErrTruncated", n, len(whole), err)
		}
	}
	var buf []byte
	if _, _, err := readFrame(bytes.NewReader(nil), &buf); err != io.EOF {
		t.Fatalf("nothing: %v, want EOF", err)
	}
}

func TestEveryFlippedBitOfThePayloadIsNoticed(t *testing.T) {
	whole := appendFrame(nil, TypeDeviceState, []byte("state"))
	for i := headerSize; i < len(whole); i++ {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		var buf []byte
		if _, _, err := readFrame(bytes.NewReader(bad), &buf); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("octet %d: %v, want ErrCorrupt", i, err)
		}
	}
}

func TestUnknownFrames(t *testing.T) {
	unknown := appendFrame(nil, 99, []byte("x"))
	var buf []byte
	if _, _, err := readFrame(bytes.NewReader(unknown), &buf); !errors.Is(err, ErrVersion) {
		t.Fatalf("must-understand: %v, want ErrVersion", err)
	}
	unknown[3] = 0
	known := appendFrame(unknown, TypeCommit, make([]byte, 8))
	if typ, _, err := readFrame(bytes.NewReader(known), &buf); err != nil || typ != TypeCommit {
		t.Fatalf("skippable: type %d, %v", typ, err)
	}
}

func TestTooLarge(t *testing.T) {
	h := appendFrame(nil, TypePages, nil)
	h[4] = 0x7f
	var buf []byte
	if _, _, err := readFrame(bytes.NewReader(h), &buf); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%v, want ErrTooLarge", err)
	}
}

func TestSlabsKeepOrderAndCount(t *testing.T) {
	var p Pages
	for round := range 2 {
		p.Reset()
		const n = 600 // more than two slabs
		for i := range n {
			if i%3 == 0 {
				p.AddFill(1, uint64(i)*PageSize, 0)
			} else {
				p.Add(0, uint64(i)*PageSize, bytes.Repeat([]byte{byte(i)}, PageSize))
			}
		}
		next := 0
		for _, f := range p.rest() {
			err := ParsePages(f[headerSize:], func(g Page) error {
				if g.Offset != uint64(next)*PageSize || g.Data != nil && g.Data[7] != byte(next) {
					t.Fatalf("round %d: record %d has offset %#x", round, next, g.Offset)
				}
				next++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if next != n || p.Count() != n || p.Zero() != n/3 {
			t.Fatalf("%d records, count %d, zero %d", next, p.Count(), p.Zero())
		}
	}
}
