package input

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// oracle is packetLog without cleverness.
type oracle struct {
	all    []packet
	seen   map[uint64]bool
	forgot uint64
}

func (o *oracle) put(p packet) {
	if o.seen[p.number] = true; p.number > o.forgot {
		o.all = append(o.all, p)
	}
}

func (o *oracle) left(maxPackets, maxBytes int) []packet {
	left := slices.DeleteFunc(slices.Clone(o.all), func(p packet) bool { return p.number <= o.forgot })
	slices.SortStableFunc(left, func(a, b packet) int { return int(a.number) - int(b.number) })
	size := func() (n int) {
		for _, p := range left {
			n += len(p.data) + overhead
		}
		return n
	}
	for len(left) > maxPackets || size() > maxBytes {
		left = left[1:]
	}
	return left
}

// TestLogAgainstOracle without overflow: what arrives in any order, more than once, late.
func TestLogAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, o := newLog(1000, 1<<20), &oracle{seen: map[uint64]bool{}}
		n := byte(0)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				number := rapid.Uint64Range(1, 40).Draw(t, "number")
				n++
				frame := []byte{n}
				l.put(number, frame)
				o.put(packet{number, slices.Clone(frame)})
				frame[0] = 0 // the caller's buffer is its own
			},
			"forget": func(t *rapid.T) {
				l.forget(rapid.Uint64Range(0, 40).Draw(t, "up to"))
				o.forgot = max(o.forgot, l.forgot)
			},
			"": func(t *rapid.T) {
				if got, want := fmt.Sprint(l.queue), fmt.Sprint(o.left(1000, 1<<20)); got != want {
					t.Fatalf("kept %s, want %s", got, want)
				}
			},
		})
	})
}

// TestLogIsBounded: the oldest go first, each is counted, and the bytes add up.
func TestLogIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxPackets, maxBytes := rapid.IntRange(1, 10).Draw(t, "packets"), rapid.IntRange(200, 2000).Draw(t, "bytes")
		l := newLog(maxPackets, maxBytes)
		o := &oracle{seen: map[uint64]bool{}}
		total := rapid.IntRange(1, 50).Draw(t, "total")
		for i := 1; i <= total; i++ {
			p := packet{uint64(i), bytes.Repeat([]byte{byte(i)}, rapid.IntRange(14, 400).Draw(t, "size"))}
			l.put(p.number, p.data)
			o.put(p)
			if len(l.queue) > maxPackets || l.bytes > maxBytes {
				t.Fatalf("%d packets of %d, %d bytes of %d", len(l.queue), maxPackets, l.bytes, maxBytes)
			}
			if got, want := fmt.Sprint(l.queue), fmt.Sprint(o.left(maxPackets, maxBytes)); got != want {
				t.Fatalf("kept %s, want %s", got, want)
			}
		}
		if int(l.dropped)+len(l.queue) != total {
			t.Fatalf("%d dropped and %d kept of %d", l.dropped, len(l.queue), total)
		}
		if l.take(); l.bytes != 0 || len(l.queue) != 0 {
			t.Fatalf("%d bytes left in an empty log", l.bytes)
		}
	})
}

func TestMissingIsCounted(t *testing.T) {
	l := newLog(100, 1<<20)
	for _, step := range []struct{ number, missing uint64 }{{1, 0}, {2, 0}, {5, 2}, {5, 2}, {3, 1}, {3, 1}, {4, 0}, {2, 0}, {7, 1}} {
		l.put(step.number, []byte("frame"))
		if l.missing != step.missing {
			t.Fatalf("after %d: %d missing, want %d", step.number, l.missing, step.missing)
		}
	}
	if l.forget(10); l.missing != 4 || l.newest != 10 {
		t.Fatalf("forgotten before any came: %d missing of %d", l.missing, l.newest)
	}
}
