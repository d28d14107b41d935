package gate

import (
	"math"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/hamgr/hamgr/bufferqdisc/internal/boottime"
	"github.com/hamgr/hamgr/bufferqdisc/internal/bpfmem"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

const (
	actRedirect = 7              // TC_ACT_REDIRECT (include/uapi/linux/pkt_cls.h)
	pass        = math.MaxUint32 // actUnspec
)

// skb is the beginning of struct __sk_buff, and room for all of it.
type skb struct {
	Len, PktType, Mark uint32
	Rest               [61]uint32
}

func run(t *testing.T, p *ebpf.Program, mark uint32) (ret, markAfter uint32) {
	t.Helper()
	var out skb
	ret, err := p.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: skb{Mark: mark}, ContextOut: &out})
	if err != nil {
		t.Fatal(err)
	}
	return ret, out.Mark
}

// TestPrograms: what passes, what waits and what is dropped, by packets of 64 bytes.
func TestPrograms(t *testing.T) {
	v, err := bpfmem.New[shared]()
	if err != nil {
		t.Fatal(err)
	}
	p, err := loadPrograms(1, 1, v.FD())
	if err != nil {
		t.Fatal(err)
	}
	s := v.Get()
	reset := func(deadline uint64) {
		s.deadline.Store(deadline)
		for _, c := range []interface{ Store(uint64) }{&s.waiting, &s.in, &s.inBytes, &s.out, &s.outBytes, &s.dropped, &s.droppedBytes, &s.late} {
			c.Store(0)
		}
	}
	const ours, relays, never = 1, 2, math.MaxUint64
	now := boottime.Now()
	reset(never)
	_, mark := run(t, p.back, 0)
	marks := map[int]uint32{ours: mark, relays: mark ^ 2}
	type row struct {
		name                      string
		deadline, waiting         uint64
		mark                      int
		in, inBytes, out          uint64
		want                      uint32
		nowWaiting, held, dropped uint64
	}
	rows := []row{
		{name: "in time", deadline: never, want: pass},
		{name: "late", deadline: now, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "behind others", deadline: never, waiting: 1, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "handed back", deadline: never, waiting: 1, mark: ours, want: pass, nowWaiting: 1},
		{name: "handed back late", deadline: now, mark: ours, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "released", deadline: never, waiting: 1, mark: relays, want: pass, nowWaiting: 1},
		{name: "released late", deadline: now, mark: relays, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "the last one", deadline: now, in: tapdev.MaxPackets + 6, out: 7, want: actRedirect, nowWaiting: 1, held: tapdev.MaxPackets},
		{name: "one too many", deadline: now, in: tapdev.MaxPackets + 7, out: 7, want: actShot, nowWaiting: 1, held: tapdev.MaxPackets, dropped: 1},
		{name: "the last bytes", deadline: now, inBytes: limitBytes - 64, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "too many bytes", deadline: now, inBytes: limitBytes - 63, want: actShot, nowWaiting: 1, dropped: 1},
	}
	if now > waitMost { // this host has been up for so long
		rows = append(rows, row{name: "long late", deadline: now - waitMost, want: actShot, dropped: 1})
	}
	for _, c := range rows {
		reset(c.deadline)
		s.waiting.Store(c.waiting)
		s.in.Store(c.in)
		s.inBytes.Store(c.inBytes)
		s.out.Store(c.out)
		ret, after := run(t, p.gate, marks[c.mark])
		held, dropped := s.in.Load()-s.out.Load(), s.dropped.Load()
		if ret != c.want || s.waiting.Load() != c.nowWaiting || held != c.held || dropped != c.dropped || s.droppedBytes.Load() != 64*dropped {
			t.Errorf("%s: %d, waiting %d, %d held, %d dropped of %d bytes", c.name, int32(ret), s.waiting.Load(), held, dropped, s.droppedBytes.Load())
		}
		if ret == pass && (c.mark == ours && after != 0 || c.mark == relays && after != marks[relays]) {
			t.Errorf("%s: the mark is %#x", c.name, after)
		}
	}
	reset(never)
	if ret, mark := run(t, p.back, 0); ret != actRedirect || mark != marks[ours] || s.late.Load() != 0 {
		t.Errorf("handing back: %d, mark %#x, %d late", ret, mark, s.late.Load())
	}
	reset(1)
	if ret, _ := run(t, p.back, 0); ret != actShot || s.late.Load() != 1 {
		t.Errorf("handing back late: %d, %d late", ret, s.late.Load())
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
