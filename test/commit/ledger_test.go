package commit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hamgr/hamgr/test/guest/ledger/chain"
)

func hash(n byte) string { return chain.Hash{n}.String() }

// talk asks and answers before anything is held; the reply comes 1 ms after the request.
func (w *world) talk(ms float64, l *chain.Ledger, client string, n uint64) {
	line := chain.Request{Client: client, Number: n, Payload: "text"}.Line()
	w.ask(ms, w.udp(false, line+"\n"))
	w.emit(ms+1, ms+1.1, "h1", w.udp(true, l.Answer(line)+"\n"))
}

func ledgerWith(clients ...string) *chain.Ledger {
	l := chain.New()
	for i, c := range clients {
		l.Answer(chain.Request{Client: c, Number: uint64(i + 1), Payload: "text"}.Line())
	}
	return l
}

func TestLedgerFollows(t *testing.T) {
	w := &world{t: t}
	l := chain.New()
	for n := range uint64(5) {
		w.talk(float64(10*n), l, "a", n+1)
		w.talk(float64(10*n+5), l, "b", n+1)
	}
	w.talk(60, l, "a", 5) // a retransmission
	w.ask(1100, w.udp(false, "later"))
	r := w.check(Options{})
	if w.want(r); r.Ledger != (Ledger{Replies: 10, Linked: 10}) {
		t.Fatalf("%+v", r.Ledger)
	}
	if r.UDP.Sent != 11 || r.UDP.Answered != 11 {
		t.Fatalf("%+v", r.UDP)
	}
}

// TestLedgerWentBack: after three answers, the ledger is one that only knows of some.
func TestLedgerWentBack(t *testing.T) {
	for name, c := range map[string]struct {
		now    *chain.Ledger
		client string
		number uint64
	}{
		"the client goes on, and is refused":    {ledgerWith("a", "a"), "a", 4},
		"the last request is an entry again":    {ledgerWith("b", "a"), "a", 3},
		"another client takes the entry":        {ledgerWith("a", "a"), "c", 1},
		"it goes on from another past":          {ledgerWith("b", "b", "b"), "c", 1},
		"empty":                                 {chain.New(), "a", 4},
		"empty, and another client comes first": {chain.New(), "c", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t}
			l := chain.New()
			for n := range uint64(3) {
				w.talk(float64(10*n), l, "a", n+1)
			}
			w.want(w.check(Options{}))
			w.talk(50, c.now, c.client, c.number)
			w.want(w.check(Options{}), RolledBack)
		})
	}
}

// TestLedgerOutOfOrder: the replies of one epoch leave by two NICs, in any order.
func TestLedgerOutOfOrder(t *testing.T) {
	l, w := chain.New(), &world{t: t}
	first, second := l.Answer("a 1 text"), l.Answer("b 1 text")
	w.ask(1, w.udp(false, "a 1 text"))
	w.ask(1, w.udp(false, "b 1 text"))
	w.emit(2, 3, "h1", w.udp(true, second))
	w.emit(2, 4, "h1", w.udp(true, first))
	r := w.check(Options{})
	if w.want(r); r.Ledger.Linked != 2 {
		t.Fatalf("%+v", r.Ledger)
	}
	w = &world{t: t}
	w.ask(1, w.udp(false, "a 1 other"))
	w.ask(1, w.udp(false, "b 1 text"))
	w.emit(2, 3, "h1", w.udp(true, second))
	w.emit(2, 4, "h1", w.udp(true, chain.New().Answer("a 1 other")))
	w.want(w.check(Options{}), RolledBack)
}

// TestTCP puts replies together from segments in any order, and sees what TCP takes back.
func TestTCP(t *testing.T) {
	start := func() *world {
		w := &world{t: t}
		l := chain.New()
		ask := chain.Request{Client: "a", Number: 1, Payload: "text"}.Line()
		reply := l.Answer(ask) + "\n"
		w.emit(0, 0.1, "h1", w.syn(true, 499))
		w.ask(0.5, w.syn(false, 99))
		w.ask(1, w.tcp(false, 100, 500, ask[:4]))
		w.ask(2, w.tcp(false, 104, 500, ask[4:]+"\n"))
		w.emit(3, 3.1, "h1", w.tcp(true, 520, 111, reply[20:]))
		w.emit(4, 4.1, "h1", w.tcp(true, 500, 111, reply[:20]))
		w.emit(5, 5.1, "h1", w.tcp(true, 510, 111, reply[10:])) // again
		return w
	}
	w := start()
	r := w.check(Options{})
	if w.want(r); r.Ledger != (Ledger{Replies: 1, Linked: 1}) {
		t.Fatalf("%+v", r.Ledger)
	}
	w.emit(5.5, 5.6, "h1", w.tcp(true, 7000, 1, "the end of a line that began before the capture\n")) // on another connection, so to speak
	w.frames[len(w.frames)-1].Data[14+20+3]++
	w.frames[len(w.frames)-2].Data[14+20+3]++
	w.want(w.check(Options{}))
	w.emit(4.9, 6.1, "h1", w.tcp(true, 600, 110, "")) // overtaken
	w.want(w.check(Options{}))
	w.emit(4.9, 6.2, "h2", w.tcp(true, 600, 110, "")) // another guest's, so to speak
	w.want(w.check(Options{}), RolledBack)
	w = start()
	w.emit(6, 6.1, "h1", w.tcp(true, 600, 110, ""))
	w.want(w.check(Options{}), RolledBack)
	w = start()
	w.emit(6, 6.1, "h1", w.tcp(true, 500, 111, "b"))
	w.want(w.check(Options{}), RolledBack)
}

func TestSavedCaptureReadsBack(t *testing.T) {
	w := failover(t, 6)
	w.ask(1, w.udp(false, "a 1 text\n"))
	w.emit(110, 131, "h1", w.arp())
	w.emit(330, 330.1, "h2", w.udp6("x"))
	var file strings.Builder
	if err := Save(&file, w.frames); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 10} {
		got, err := Load(strings.NewReader(file.String()[:file.Len()-cut]))
		want := w.frames[:len(w.frames)-min(cut, 1)]
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d frames, %v", len(got), len(want), err)
		}
		for i := range got {
			if g, f := got[i], want[i]; !g.Time.Equal(f.Time) || fmt.Sprint(g.Host, g.Device, g.Data) != fmt.Sprint(f.Host, f.Device, f.Data) {
				t.Fatalf("frame %d: %+v, want %+v", i, g, f)
			}
		}
	}
}
