package colo

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A golden session is what one real QEMU and an agent said to each other, in turns:
// testdata/<QEMU version>-<accelerator>.session.gz holds a JSON line about the QEMU, then
// per turn a byte (Q: QEMU, A: agent), a u32 length and that many bytes. Beside it, .txt
// is what a reader has to find in it. TestRecord makes both. What the pages held is
// replaced, but for the guest's own counters: firmware is other people's work, and large.
type golden struct {
	Version Version
	Turns   []turn
	silent  bool // without a description, see describe
}

type turn struct {
	agent bool
	data  []byte
}

// qemu is all that QEMU said.
func (g *golden) qemu() []byte {
	var b []byte
	for _, t := range g.Turns {
		if !t.agent {
			b = append(b, t.data...)
		}
	}
	return b
}

func goldens(tb testing.TB) map[string]*golden {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*.session.gz")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no golden sessions: %v", err)
	}
	all := map[string]*golden{}
	for _, p := range paths {
		g, err := loadGolden(p)
		if err != nil {
			tb.Fatalf("%s: %v", p, err)
		}
		all[strings.TrimSuffix(filepath.Base(p), ".session.gz")] = g
	}
	return all
}

func loadGolden(path string) (*golden, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	line, rest, _ := bytes.Cut(all, []byte{'\n'})
	g := &golden{}
	if err := json.Unmarshal(line, &g.Version); err != nil {
		return nil, err
	}
	for len(rest) >= 5 {
		n := binary.BigEndian.Uint32(rest[1:])
		if uint64(n) > uint64(len(rest)-5) {
			break
		}
		g.Turns = append(g.Turns, turn{rest[0] == 'A', rest[5 : 5+n]})
		rest = rest[5+n:]
	}
	if len(rest) > 0 {
		return nil, errors.New("cut off")
	}
	return g, nil
}

func (g *golden) save(path string) error {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	line, err := json.Marshal(g.Version)
	if err != nil {
		return err
	}
	z.Write(append(line, '\n'))
	for _, t := range g.Turns {
		who := byte('Q')
		if t.agent {
			who = 'A'
		}
		z.Write(binary.BigEndian.AppendUint32([]byte{who}, uint32(len(t.data))))
		z.Write(t.data)
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// scrub replaces what the pages hold by a byte made of their place.
func (g *golden) scrub() error {
	stream := g.qemu()
	s := &scrubber{stream: stream}
	s.r = newReader(bytes.NewReader(stream), s)
	if err := readSession(s.r, s, nil); err != nil {
		return err
	}
	for i, t := range g.Turns {
		if !t.agent {
			g.Turns[i].data, stream = stream[:len(t.data)], stream[len(t.data):]
		}
	}
	return nil
}

type scrubber struct {
	memory
	r      *reader
	stream []byte
}

func (s *scrubber) Page(block int, offset uint64, _ []byte) error {
	page := s.stream[s.r.off-PageSize : s.r.off]
	if s.blocks[block].Name == "pc.ram" && offset >= counterFirst && offset < counterEnd {
		page = page[4:]
	}
	for i := range page {
		page[i] = byte(block)<<4 ^ byte(offset>>12) | 1
	}
	return nil
}

// recorder keeps what passes a connection. QEMU only speaks in answer to something, so
// what is read before a write was said before it, too.
type recorder struct {
	net.Conn
	mu  sync.Mutex // the connection is read and written by one goroutine, closed by others
	log *golden
}

func (r *recorder) add(agent bool, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.log.Turns); n > 0 && !agent && !r.log.Turns[n-1].agent { // an agent's writes stay apart
		r.log.Turns[n-1].data = append(r.log.Turns[n-1].data, b...)
		return
	}
	r.log.Turns = append(r.log.Turns, turn{agent, bytes.Clone(b)})
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.add(false, b[:n])
	return n, err
}

func (r *recorder) Write(b []byte) (int, error) {
	r.add(true, b)
	return r.Conn.Write(b)
}

// summary says what a session brought, in a text that shows what differs when it does.
type summary struct {
	strings.Builder
	memory
	epochs int
}

func newSummary() *summary { return &summary{memory: memory{limit: 1 << 30}} }

func (s *summary) line(deviceState []byte) {
	h := sha256.New()
	for i := range s.blocks {
		h.Write(s.ram[i])
	}
	if s.epochs == 0 {
		fmt.Fprintf(s, "configuration %q\n", s.config)
		for _, b := range s.blocks {
			fmt.Fprintf(s, "block %s %d\n", b.Name, b.Size)
		}
	}
	fmt.Fprintf(s, "copy %d: %d pages, %d fills, memory %x", s.epochs, s.pages, s.fills, h.Sum(nil)[:8])
	if deviceState != nil {
		sum := sha256.Sum256(deviceState)
		fmt.Fprintf(s, ", device state %d bytes %x", len(deviceState), sum[:8])
	}
	s.WriteByte('\n')
	s.epochs, s.pages, s.fills = s.epochs+1, 0, 0
}

func wantSummary(tb testing.TB, name string) string {
	tb.Helper()
	want, err := os.ReadFile("testdata/" + name + ".txt")
	if err != nil {
		tb.Fatal(err)
	}
	return string(want)
}

func TestGoldenSessions(t *testing.T) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			s := play(t, g)
			if want := wantSummary(t, name); s.String() != want {
				t.Errorf("got:\n%swant:\n%s", s, want)
			}
		})
	}
}

func TestGoldenTruncated(t *testing.T) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			stream := g.qemu()
			ends, between := sections(t, stream)
			var at []int
			for _, n := range ends {
				at = append(at, n-1, n, n+1, n+7)
			}
			for n := range 300 {
				at = append(at, n)
			}
			truncations(t, stream, at, between)
		})
	}
}
