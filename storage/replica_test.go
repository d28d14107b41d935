package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hamgr/hamgr/storage/wire"
	"pgregory.net/rapid"
)

const pages = 16

func newReplica(t testing.TB) (*Replica, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "replica")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ram := filepath.Join(dir, "pc.ram")
	l := wire.Layout{Blocks: []wire.Block{{Name: "pc.ram", Size: pages * wire.PageSize}, {Name: "vga", Size: 4 * wire.PageSize}}}
	r, err := Create(filepath.Join(dir, "replica"), Identity{"g1", 7}, l, ram, "pc.ram")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Discard() })
	return r, ram
}

// connect gives a sender whose frames end up in r, and the error that ended it.
func connect(t testing.TB, r *Replica, mangle func([]byte) []byte) (*wire.Sender, net.Conn, <-chan error) {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		rec := wire.NewReceiver(theirs)
		ended <- func() error {
			if _, err := rec.Hello(); err != nil {
				return err
			}
			if err := rec.Accept(wire.Accepted{}); err != nil {
				return err
			}
			for {
				f, err := rec.Next()
				if err == nil {
					err = take(r, rec, f)
				}
				if err != nil {
					theirs.Close()
					return err
				}
			}
		}()
	}()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	var conn net.Conn = ours
	if mangle != nil {
		conn = mangled{ours, mangle}
	}
	s := wire.NewSender(conn)
	if _, err := s.Hello(t.Context(), wire.Hello{Domain: "g1", Generation: 7}); err != nil {
		t.Fatal(err)
	}
	return s, ours, ended
}

type mangled struct {
	net.Conn
	f func([]byte) []byte
}

func (m mangled) Write(p []byte) (int, error) {
	if _, err := m.Conn.Write(m.f(append([]byte(nil), p...))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func take(r *Replica, rec *wire.Receiver, f wire.Frame) error {
	switch f.Type {
	case wire.TypeBegin:
		return r.Begin(7, f.Epoch)
	case wire.TypePages:
		return r.AddPages(f.Payload)
	case wire.TypeDeviceState:
		r.SetDeviceState(f.Payload)
	case wire.TypeEnd:
		if err := r.Commit(7, f.Epoch, f.Count); err != nil {
			return err
		}
		return rec.Commit(wire.Committed{Epoch: f.Epoch})
	}
	return nil
}

func checkpoint(epoch uint64, fill map[int]byte) *wire.Checkpoint {
	c := wire.NewCheckpoint()
	c.Reset(epoch)
	for page, v := range fill {
		c.Add(0, uint64(page)*wire.PageSize, bytes.Repeat([]byte{v}, wire.PageSize))
	}
	c.SetDeviceState([]byte{byte(epoch), 0})
	return c
}

func ship(ctx context.Context, s *wire.Sender, c *wire.Checkpoint) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.Ship(ctx, c); err != nil {
		return err
	}
	_, err := s.WaitCommit(ctx)
	return err
}

func image(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOnlyWholeCheckpoints cuts or corrupts the connection anywhere in a checkpoint: the
// image is that of the last commit, byte for byte, as a dumb copy of it says (I4).
func TestOnlyWholeCheckpoints(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, ram := newReplica(t)
		budget := rapid.IntRange(200, 5*wire.PageSize*4).Draw(rt, "octets before the fault")
		corrupt := rapid.Bool().Draw(rt, "corrupt")
		var conn net.Conn
		armed := false
		s, raw, ended := connect(t, r, func(p []byte) []byte {
			if !armed {
				return p
			}
			if budget -= len(p); budget > 0 {
				return p
			}
			at := max(0, len(p)+budget-1)
			if corrupt {
				p[min(at, len(p)-1)] ^= 0x40
				budget = 1 << 30
				return p
			}
			conn.Write(p[:at])
			conn.Close()
			return nil
		})
		conn = raw
		armed = true
		oracle := make([]byte, pages*wire.PageSize)
		for epoch := uint64(1); epoch <= 4; epoch++ {
			fill := rapid.MapOfN(rapid.IntRange(0, pages-1), rapid.Byte(), 1, 4).Draw(rt, "dirty")
			if err := ship(t.Context(), s, checkpoint(epoch, fill)); err != nil {
				break
			}
			for p, v := range fill {
				copy(oracle[p*wire.PageSize:], bytes.Repeat([]byte{v}, wire.PageSize))
			}
			if got, _ := r.Committed(); got != epoch {
				rt.Fatalf("epoch %d acknowledged, %d committed", epoch, got)
			}
		}
		conn.Close()
		<-ended
		if !bytes.Equal(image(t, ram), oracle) {
			rt.Fatalf("the image is not that of the last commit")
		}
	})
}

func TestStaleGenerationIsRefused(t *testing.T) {
	r, ram := newReplica(t)
	s, _, ended := connect(t, r, nil)
	if err := ship(t.Context(), s, checkpoint(1, map[int]byte{3: 1})); err != nil {
		t.Fatal(err)
	}
	if err := r.Freeze(8); err != nil {
		t.Fatal(err)
	}
	before := image(t, ram)
	if err := ship(t.Context(), s, checkpoint(2, map[int]byte{3: 9})); err == nil {
		t.Fatal("a checkpoint of a stale generation was committed")
	}
	if err := <-ended; !errors.Is(err, ErrStale) {
		t.Fatalf("%v, want ErrStale", err)
	}
	if !bytes.Equal(before, image(t, ram)) {
		t.Fatal("a stale checkpoint changed the image")
	}
}

func TestFreezeBetweenBeginAndCommit(t *testing.T) {
	r, _ := newReplica(t)
	if err := r.Begin(7, 1); err != nil {
		t.Fatal(err)
	}
	r.SetDeviceState([]byte{1, 0})
	if err := r.Freeze(8); !errors.Is(err, ErrEmpty) {
		t.Fatalf("%v, want ErrEmpty", err)
	}
	if err := r.Commit(7, 1, 0); !errors.Is(err, ErrStale) {
		t.Fatalf("%v, want ErrStale", err)
	}
}

// failing is an image whose writes fail from the n-th on.
type failing struct {
	file
	left int
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errors.New("no space left")
	}
	return f.file.WriteAt(p, off)
}

// TestFailedApplyIsNoReplica: an image that may be torn is never restored.
func TestFailedApplyIsNoReplica(t *testing.T) {
	r, _ := newReplica(t)
	s, _, ended := connect(t, r, nil)
	if err := ship(t.Context(), s, checkpoint(1, map[int]byte{1: 1})); err != nil {
		t.Fatal(err)
	}
	r.images[0] = &failing{r.images[0], 1}
	if err := ship(t.Context(), s, checkpoint(2, map[int]byte{1: 2, 2: 2, 3: 2})); err == nil {
		t.Fatal("acknowledged although applying failed")
	}
	if err := <-ended; !errors.Is(err, ErrBroken) {
		t.Fatalf("%v, want ErrBroken", err)
	}
	if _, ok := r.Committed(); ok || !errors.Is(r.Freeze(8), ErrBroken) {
		t.Fatal("a torn replica passes for whole")
	}
}

func TestPageOutsideOfMemory(t *testing.T) {
	r, _ := newReplica(t)
	s, _, ended := connect(t, r, nil)
	c := wire.NewCheckpoint()
	c.Reset(1)
	c.AddFill(0, pages*wire.PageSize, 0)
	c.SetDeviceState([]byte{1, 0})
	if err := ship(t.Context(), s, c); err == nil {
		t.Fatal("committed")
	}
	if err := <-ended; !errors.Is(err, wire.ErrCorrupt) {
		t.Fatalf("%v, want ErrCorrupt", err)
	}
}

func TestOtherPagesSkipsMainRAM(t *testing.T) {
	r, _ := newReplica(t)
	n := 0
	err := r.OtherPages(func(block int, _ uint64, _ []byte) error {
		n++
		if block != 1 {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	if err != nil || n != 4 {
		t.Fatalf("%d pages, %v", n, err)
	}
}

// BenchmarkCheckpoint ships, stages, applies and commits 16 pages over a pipe.
func BenchmarkCheckpoint(b *testing.B) {
	r, _ := newReplica(b)
	s, _, _ := connect(b, r, nil)
	fill := map[int]byte{}
	for i := range pages {
		fill[i] = byte(i)
	}
	epoch := uint64(0)
	b.SetBytes(pages * wire.PageSize)
	for b.Loop() {
		epoch++
		if err := ship(b.Context(), s, checkpoint(epoch, fill)); err != nil {
			b.Fatal(err)
		}
	}
}
