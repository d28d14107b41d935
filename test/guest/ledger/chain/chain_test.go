package chain

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The chain of "a 1 x", "b 1 y", worked out with another implementation of SHA-256.
func TestKnownChain(t *testing.T) {
	l := New()
	for _, step := range [][2]string{
		{"a 1 x", "a 1 1 2827fde87196bbaffa3cc00ed453c48efee9a0db7c3f12ea4f4a12cc41e47ef8"},
		{"b 1 y", "b 1 2 1ab7d6c4e4145e88454a001b8be97e2c5867959638ac815bfe7b7f3d063e1056"},
		{"b 1 y", "b 1 2 1ab7d6c4e4145e88454a001b8be97e2c5867959638ac815bfe7b7f3d063e1056"}, // a retransmission makes no entry
		{"a 3 z", "a 3 refused 2"},
		{"c 2 z", "c 2 refused 1"},
		{"b 0 z", "! not a request: number \"0\" of client \"b\""},
	} {
		if got := l.Answer(step[0]); got != step[1] {
			t.Errorf("%q: got %q, want %q", step[0], got, step[1])
		}
	}
	if s := l.State(); s.Sequence != 2 || s.Clients != 2 {
		t.Errorf("state after all: %+v", s)
	}
}

func TestBadRequests(t *testing.T) {
	l := New()
	for _, line := range []string{"", "a", "a 1", "a x y", "a 01 y", "a +1 y", "a -1 y", " 1 y", "! 1 y", strings.Repeat("c", MaxClient+1) + " 1 y",
		"a 1 " + strings.Repeat("y", MaxLine), "a 99999999999999999999 y", "a 1 x\ry"} {
		if got := l.Answer(line); !strings.HasPrefix(got, "! ") {
			t.Errorf("%.40q: accepted: %s", line, got)
		}
		if strings.Contains(l.Answer(line), "\n") {
			t.Errorf("%.40q: the answer is more than a line", line)
		}
	}
	if s := l.State(); s.Sequence != 0 || s.Clients != 0 {
		t.Errorf("a bad request left something: %+v", s)
	}
	if _, err := ParseReply(l.Answer("")); !errors.Is(err, ErrBadRequest) {
		t.Errorf("a client does not see that its request was bad: %v", err)
	}
}

func TestClientsAreBounded(t *testing.T) {
	l := New()
	for i := range maxClients {
		if _, err := l.Append(Request{Client: strings.Repeat("a", 1+i%60) + string(rune('A'+i/60))}); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.State().Clients; n != maxClients {
		t.Fatalf("%d clients", n)
	}
	if _, err := l.Append(Request{Client: "one-more"}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("client %d: %v", maxClients+1, err)
	}
	if _, err := l.Append(Request{Client: "aA"}); err != nil {
		t.Errorf("a known client is refused: %v", err)
	}
}

// A request's line reads back as itself; so does a reply's.
func TestLinesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Request{
			Client:  rapid.StringMatching(`[a-z!-~]{2,64}`).Draw(t, "client"),
			Number:  rapid.Uint64Min(1).Draw(t, "number"),
			Payload: rapid.StringMatching(`[ -~]{0,200}`).Draw(t, "payload"),
		}
		if got, err := ParseRequest(r.Line()); err != nil || got != r {
			t.Fatalf("%+v: %+v, %v", r, got, err)
		}
		a := Reply{Client: "c", Number: r.Number, Sequence: rapid.Uint64().Draw(t, "sequence"), Hash: Next(Hash{}, r.Line())}
		if rapid.Bool().Draw(t, "refused") {
			a = Reply{Client: "c", Number: r.Number, Expected: r.Number}
		}
		if got, err := ParseReply(a.Line()); err != nil || got != a {
			t.Fatalf("%+v: %+v, %v", a, got, err)
		}
	})
}
