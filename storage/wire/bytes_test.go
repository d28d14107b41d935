package wire

import (
	"io"
	"net"
	"testing"
)

// TestBytes: a checkpoint says of itself what it takes on the wire.
func TestBytes(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go io.Copy(io.Discard, theirs)
	s := NewSender(ours)
	defer s.Close()
	c := NewCheckpoint()
	for i, pages := range []int{0, 1, 600} { // 600 fill more than one frame
		c.Reset(uint64(i + 1))
		for n := range pages {
			c.Add(0, uint64(n)*PageSize, make([]byte, PageSize))
			c.AddFill(1, uint64(n)*PageSize, 0)
		}
		c.SetDeviceState(make([]byte, 1000*i))
		before := s.Sent()
		if err := s.Ship(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if sent := s.Sent() - before; sent != uint64(c.Bytes()) {
			t.Errorf("%d pages: %d bytes were sent, the checkpoint says %d", pages, sent, c.Bytes())
		}
	}
}
