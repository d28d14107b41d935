package colo

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hamgr/hamgr/qmp"
)

// counter is a boot sector whose guest writes one number, which it keeps in a register,
// to the start of 112 pages in turn, then the next number, for ever. So memory and
// registers of one moment fit together in one way only: pages up to some place hold n,
// those after it n-1, and n is the register's.
var counter = []byte{
	0xfa,             //             cli: the BIOS's interrupts would use the register
	0x66, 0x31, 0xdb, //             xor ebx, ebx
	0x66, 0x43, //             next: inc ebx
	0xb8, 0x00, 0x20, //             mov ax, 0x2000
	0x8e, 0xc0, //             page: mov es, ax
	0x26, 0x66, 0x89, 0x1e, 0, 0, // mov es:[0], ebx
	0x05, 0x00, 0x01, //             add ax, 0x100
	0x3d, 0x00, 0x90, //             cmp ax, 0x9000
	0x75, 0xf0, //                   jne page
	0xeb, 0xe9, //                   jmp next
}

const (
	counterFirst = 0x20000
	counterEnd   = 0x90000
	guestMemory  = 16 << 20
	lowMemory    = 640 << 10 // from here to 1 MiB addresses are not RAM's
)

// checkCounters says which number a memory was written with last. Memory of no single
// moment is an error.
func checkCounters(ram []byte) (uint32, error) {
	at := func(a int) uint32 { return binary.LittleEndian.Uint32(ram[a:]) }
	n, steps := at(counterFirst), 0
	for a := counterFirst + PageSize; a < counterEnd; a += PageSize {
		if before, now := at(a-PageSize), at(a); now != before {
			if steps++; steps > 1 || now != before-1 {
				return 0, fmt.Errorf("page %#x has %d after %d: memory of more than one moment", a, now, before)
			}
		}
	}
	return n, nil
}

// register is EBX, what the guest is writing, as the monitor tells it.
func register(ctx context.Context, c *qmp.Client) (uint32, error) {
	var text string
	err := c.Execute(ctx, "human-monitor-command", map[string]string{"command-line": "info registers"}, &text)
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut([]byte(text), []byte("EBX="))
	if !ok || len(rest) < 8 {
		return 0, fmt.Errorf("no EBX in %q", text)
	}
	n, err := strconv.ParseUint(string(rest[:8]), 16, 32)
	return uint32(n), err
}

// guest is a real QEMU with the counter in it.
type guest struct {
	*process
	client *qmp.Client
	dir    string
}

func emulator(t *testing.T) (path, accel string) {
	t.Helper()
	path = os.Getenv(qemuVariable)
	if path == "" {
		t.Skip("runs inside the lab: TestInLab")
	}
	if accel = os.Getenv(accelVariable); accel == "" {
		accel = "tcg"
	}
	return path, accel
}

// bootGuest starts a guest that ends with the test.
func bootGuest(t *testing.T, ctx context.Context, more ...string) *guest {
	t.Helper()
	path, accel := emulator(t)
	g := &guest{dir: t.TempDir()}
	floppy := filepath.Join(g.dir, "floppy")
	disk := make([]byte, 1440<<10)
	copy(disk, counter)
	disk[510], disk[511] = 0x55, 0xaa
	if err := os.WriteFile(floppy, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{path, "-accel", accel, "-m", strconv.Itoa(guestMemory >> 20), "-nodefaults", "-no-user-config",
		"-display", "none", "-boot", "a", "-drive", "if=floppy,format=raw,readonly=on,file=" + floppy}, more...)
	var err error
	if g.process, err = startQEMU(ctx, args); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.stop()
		if t.Failed() {
			t.Logf("QEMU says: %s", &g.stderr)
		}
	})
	mon, err := qmp.NewSocket(g.ctx, g.monitor)
	if err != nil {
		g.stop()
		t.Fatalf("%v (%s)", err, &g.stderr)
	}
	t.Cleanup(func() { mon.Disconnect() })
	g.client = qmp.New(mon)
	return g
}

// memory is what the guest has in an address range, as QEMU tells it.
func (g *guest) memory(t *testing.T, from, to int) []byte {
	t.Helper()
	file := filepath.Join(g.dir, "pmem")
	err := g.client.Execute(g.ctx, "pmemsave", map[string]any{"val": from, "size": to - from, "filename": file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// count is the number the guest has in its first page.
func (g *guest) count(t *testing.T) uint32 {
	t.Helper()
	return binary.LittleEndian.Uint32(g.memory(t, counterFirst, counterFirst+4))
}

// waitCount waits until the guest counts on from a number.
func (g *guest) waitCount(t *testing.T, above uint32) {
	t.Helper()
	for p := (poll{}); g.count(t) <= above; {
		if err := p.wait(g.ctx); err != nil {
			s, _ := queryStatus(context.WithoutCancel(g.ctx), g.client)
			t.Fatalf("the guest stays at %d (%v): %v", above, s, err)
		}
	}
}

// wantRunningFree checks that the guest runs and that nothing of COLO is left.
func (g *guest) wantRunningFree(t *testing.T) {
	t.Helper()
	s, err := queryStatus(g.ctx, g.client)
	on, err2 := enabled(g.ctx, g.client)
	if err != nil || err2 != nil || s.run != "running" || !s.over() || on {
		t.Fatalf("%v, COLO enabled %t, %v, %v", s, on, err, err2)
	}
	g.waitCount(t, g.count(t))
}

// compare checks a replica's main RAM against a guest that stands still.
func (g *guest) compare(t *testing.T, ram []byte) {
	t.Helper()
	for _, r := range [][2]int{{0, lowMemory}, {1 << 20, len(ram)}} {
		real := g.memory(t, r[0], r[1])
		for a := 0; a < len(real); a += PageSize {
			if !bytes.Equal(real[a:a+PageSize], ram[r[0]+a:r[0]+a+PageSize]) {
				t.Fatalf("page %#x of the replica differs from the guest's", r[0]+a)
			}
		}
	}
}

func (m *memory) main() []byte {
	for i, b := range m.blocks {
		if b.Name == "pc.ram" {
			return m.ram[i]
		}
	}
	return nil
}

// pace is the epoch of the tests: long enough for the guest to go round many times.
const pace = 5 * time.Millisecond

// epochs runs n checkpoints; each sees the stopped guest's device state before it goes on.
func (g *guest) epochs(t *testing.T, s *Session, sink Sink, n int, each func(state []byte)) {
	t.Helper()
	for i := range n {
		err := s.WaitRequest(g.ctx)
		if err != nil {
			t.Fatalf("epoch %d: %v", i, err)
		}
		<-time.After(pace) // the epoch itself: the guest runs
		state, err := s.Capture(g.ctx, nil, sink)
		if err != nil {
			t.Fatalf("epoch %d: %v", i, err)
		}
		if each != nil {
			each(state)
		}
		if err := s.Resume(); err != nil {
			t.Fatalf("epoch %d: %v", i, err)
		}
	}
}
