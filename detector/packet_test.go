package detector

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hamgr/hamgr/detector/judge"
)

func TestPacket(t *testing.T) {
	mine := clusterHash("x")
	p := packet{Heartbeat: judge.Heartbeat{Sender: "h1", Incarnation: 7, Sequence: 8, Suspects: []string{"h2", "h3"}}}
	b := p.marshal(mine)
	got, err := unmarshal(append(b, "a later version's"...), mine)
	if err != nil || got.Sender != "h1" || got.Incarnation != 7 || got.Sequence != 8 || !slices.Equal(got.Suspects, p.Suspects) {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(b) != headLength+3*3 {
		t.Fatalf("%d octets", len(b))
	}
	if _, err := unmarshal(b, clusterHash("y")); !errors.Is(err, errForeign) {
		t.Fatalf("another cluster's: %v", err)
	}
	for n := range b {
		if _, err := unmarshal(b[:n], mine); !errors.Is(err, errForeign) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for range 500 {
		p.Suspects = append(p.Suspects, strings.Repeat("n", MaxName))
	}
	if b := p.marshal(mine); len(b) > maxPacket {
		t.Fatalf("%d octets", len(b))
	} else if _, err := unmarshal(b, mine); err != nil {
		t.Fatal(err)
	}
}

func TestAnyPacketIsHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := append([]byte(magic), rapid.SliceOf(rapid.Byte()).Draw(t, "rest")...)
		var cluster uint64
		if len(b) >= 12 {
			clear(b[4:12])
		}
		if p, err := unmarshal(b, cluster); err == nil && (p.Sender == "" || len(p.Suspects) > 254) {
			t.Fatalf("%+v", p)
		}
	})
}
