package bufferqdisc

import (
	"runtime"
	"testing"

	hosts "github.com/hamgr/hamgr/test/lab"
	"github.com/hamgr/hamgr/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// TestMemoryIsBounded has a guest send several times what may be held, in large packets
// and in small ones, epoch after epoch: the relay keeps to the limit, and what it holds is
// the kernel's and not in this process.
func TestMemoryIsBounded(t *testing.T) {
	if labtest.On(hosts.UML) {
		return // slow, and about the relay
	}
	for name, c := range map[string]struct{ size, limit int }{"large": {60_000, 8 << 20}, "small": {60, 1 << 19}} {
		t.Run(name, func(t *testing.T) {
			size, limit := c.size, c.limit
			l := newLab(t, 1)
			b := setUp(t, l, "relay", limit)
			before := heap()
			must(t, b.Hold())
			p := frame(l.guests[0].mac, clientMAC, etherTest, 1, size)
			if size > 2000 {
				p = ipFrame(l.guests[0], false, unix.IPPROTO_TCP, make([]byte, size), 1448, true)
			}
			for range 4 {
				for sent := 0; sent < 3*limit; sent += size {
					unix.Write(l.guests[0].fd, p)
				}
				e, err := b.EndEpoch()
				must(t, err)
				if s := b.Stats(); s.HeldBytes > uint64(limit) || s.HeldBytes < uint64(limit/4) || s.Dropped == 0 {
					t.Errorf("%+v", s)
				}
				if used := heap() - before; used > 1<<20 {
					t.Errorf("%d KiB of this process are in use", used>>10)
				}
				must(t, b.Release(e, whenever))
				_, err = l.arrived()
				must(t, err)
			}
			if s := b.Stats(); s.HeldBytes != 0 || s.HeldPackets != 0 {
				t.Errorf("all is released: %+v", s)
			}
		})
	}
}

// heap is what is in use of it.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
