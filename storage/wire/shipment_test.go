package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"
)

// TestBegin: a checkpoint's pages are on their way while it is being filled, and what
// arrives is the same, to the byte, as when it is sent at once.
func TestBegin(t *testing.T) {
	const pages = 100
	fill := func(c *Checkpoint, from, to int) {
		for n := from; n < to; n++ {
			c.Add(0, uint64(n)*PageSize, bytes.Repeat([]byte{byte(n)}, PageSize))
		}
	}
	whole, early := NewCheckpoint(), NewCheckpoint()
	for epoch := range uint64(2) { // the second in the memory of the first
		whole.Reset(epoch + 1)
		fill(whole, 0, pages)
		whole.SetDeviceState([]byte("state"))
		want := received(t, func(s *Sender, _ func(int)) error { return s.Ship(t.Context(), whole) })

		early.Reset(epoch + 1)
		got := received(t, func(s *Sender, arrived func(int)) error {
			s.Begin(early)
			fill(early, 0, pages/2)
			arrived(pages / 2 * PageSize * 3 / 4) // nobody has called Ship
			fill(early, pages/2, pages)
			early.SetDeviceState([]byte("state"))
			return s.Ship(t.Context(), early)
		})
		if !bytes.Equal(got, want) {
			t.Errorf("epoch %d: %d bytes arrived, not the %d of a checkpoint sent at once", epoch+1, len(got), len(want))
		}
	}
}

// received is what arrives at the other end; send may wait for a number of bytes.
func received(t *testing.T, send func(*Sender, func(int)) error) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	s, all, grown := NewSender(ours), make(chan []byte, 1), make(chan int, 1000)
	go func() {
		var b []byte
		buf := make([]byte, 1<<20)
		for {
			n, err := theirs.Read(buf)
			b = append(b, buf[:n]...)
			if err != nil {
				all <- b
				return
			}
			grown <- len(b)
		}
	}()
	err := send(s, func(want int) {
		late := time.After(5 * time.Second)
		for n := 0; n < want; {
			select {
			case n = <-grown:
			case <-late:
				t.Fatalf("%d bytes arrived while the checkpoint was filled, not %d", n, want)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	return <-all
}

// TestBeginNeverWaits: a network that takes nothing does not hold up whoever fills a
// checkpoint, since the guest stands still meanwhile; Ship does wait, until its context ends.
func TestBeginNeverWaits(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := NewSender(ours)
	c := NewCheckpoint()
	c.Reset(1)
	s.Begin(c)
	for n := range 1000 {
		c.Add(0, uint64(n)*PageSize, make([]byte, PageSize))
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("too slow"))
	defer cancel()
	if err := s.Ship(ctx, c); err == nil || err.Error() != "too slow" {
		t.Errorf("Ship: %v, want the context's cause", err)
	}
	s.Close()
}

// TestFlushIsBounded: the guest may stand still at the end of the first copy.
func TestFlushIsBounded(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := NewSender(ours)
	defer s.Close()
	var p Pages
	p.Add(0, 0, make([]byte, PageSize))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("too slow"))
	defer cancel()
	if err := s.Flush(ctx, &p); err == nil || err.Error() != "too slow" {
		t.Errorf("%v, want the context's cause", err)
	}
}

// TestCloseAfterBegin: a checkpoint that is never whole leaves no goroutine, and no END.
func TestCloseAfterBegin(t *testing.T) {
	got := received(t, func(s *Sender, arrived func(int)) error {
		c := NewCheckpoint()
		c.Reset(1)
		s.Begin(c)
		for n := range 20 {
			c.Add(0, uint64(n)*PageSize, make([]byte, PageSize))
		}
		arrived(headerSize)
		way := s.way
		s.Close()
		select {
		case <-way.done:
		default:
			t.Error("Close came back before the goroutine's end")
		}
		return nil
	})
	for len(got) >= headerSize {
		if typ := Type(binary.BigEndian.Uint16(got)); typ == TypeEnd {
			t.Error("an END was sent")
		}
		got = got[min(len(got), headerSize+int(binary.BigEndian.Uint32(got[4:]))):]
	}
}
