package gate

import (
	"math"
	"testing"

	"github.com/hamgr/hamgr/bufferqdisc/internal/bpfmem"
	"github.com/hamgr/hamgr/bufferqdisc/internal/tapdev"
)

const actRedirect = 7 // TC_ACT_REDIRECT (include/uapi/linux/pkt_cls.h)

// TestProgram: what passes, what waits and what is dropped, by packets of 64 bytes that
// are not marked.
func TestProgram(t *testing.T) {
	v, err := bpfmem.New[shared]()
	if err != nil {
		t.Fatal(err)
	}
	p, err := loadPrograms(1, 1, v.FD())
	if err != nil {
		t.Fatal(err)
	}
	s := v.Get()
	for _, c := range []struct {
		name                      string
		deadline, waiting         uint64
		in, inBytes, out          uint64
		want                      uint32
		nowWaiting, held, dropped uint64
	}{
		{name: "in time", deadline: math.MaxUint64, want: math.MaxUint32},
		{name: "late", deadline: 1, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "behind others", deadline: math.MaxUint64, waiting: 1, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "the last one", deadline: 1, in: tapdev.MaxPackets + 6, out: 7, want: actRedirect, nowWaiting: 1, held: tapdev.MaxPackets},
		{name: "one too many", deadline: 1, in: tapdev.MaxPackets + 7, out: 7, want: actShot, nowWaiting: 1, held: tapdev.MaxPackets, dropped: 1},
		{name: "the last bytes", deadline: 1, inBytes: limitBytes - 64, want: actRedirect, nowWaiting: 1, held: 1},
		{name: "too many bytes", deadline: 1, inBytes: limitBytes - 63, want: actShot, nowWaiting: 1, dropped: 1},
	} {
		s.deadline.Store(c.deadline)
		s.waiting.Store(c.waiting)
		s.in.Store(c.in)
		s.inBytes.Store(c.inBytes)
		s.out.Store(c.out)
		s.dropped.Store(0)
		s.droppedBytes.Store(0)
		ret, _, err := p.gate.Test(make([]byte, 64))
		if err != nil {
			t.Fatal(err)
		}
		held, dropped := s.in.Load()-s.out.Load(), s.dropped.Load()
		if ret != c.want || s.waiting.Load() != c.nowWaiting || held != c.held || dropped != c.dropped || s.droppedBytes.Load() != 64*dropped {
			t.Errorf("%s: %d, waiting %d, %d held, %d dropped of %d bytes", c.name, int32(ret), s.waiting.Load(), held, dropped, s.droppedBytes.Load())
		}
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
