package input

import (
	"testing"

	"pgregory.net/rapid"
)

// FuzzParse: a datagram is refused or its frame is what follows the header, and a lane
// that takes it stays within its limits.
func FuzzParse(f *testing.F) {
	frame := make([]byte, 60)
	f.Add(append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, frame...))
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 1, 0}, frame...))
	f.Add(append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, frame...))
	f.Add([]byte{8, 0, 0, 0, 0, 0, 1, 0, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &lane{kept: newLog(4, 1000)}
		for range 3 {
			l.put(data)
		}
		number, got, err := parse(data)
		switch {
		case err != nil:
			if l.strange != 3 || len(l.kept.queue) > 0 {
				t.Fatalf("%v, and it was kept", err)
			}
		case number > maxNumber || len(got) != len(data)-vxlanHeader || len(got) < minFrame:
			t.Fatalf("number %d, %d octets of %d", number, len(got), len(data))
		}
		if l.kept.bytes > 1000 || len(l.kept.queue) > 4 {
			t.Fatalf("%d bytes, %d packets", l.kept.bytes, len(l.kept.queue))
		}
	})
}

// TestUnwrap: any number that is near to the newest comes back whole from its low bits.
func TestUnwrap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newest := rapid.Uint64Range(0, 1<<40).Draw(t, "newest")
		ahead := rapid.Int64Range(-1<<23, 1<<23-1).Draw(t, "ahead")
		whole := int64(newest) + ahead
		got, ok := unwrap(newest, uint32(whole)&maxNumber)
		if ok != (whole > 0) || ok && got != uint64(whole) {
			t.Fatalf("%d after %d: %d, %v", whole, newest, got, ok)
		}
	})
}
