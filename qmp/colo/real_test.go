package colo

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var record = flag.Bool("record", false, "make golden sessions of the QEMU in HAMGR_TEST_QEMU, into testdata")

func realContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestRealProbe(t *testing.T) {
	path, accel := emulator(t)
	r, err := Probe(t.Context(), path, accel == "kvm")
	if err != nil || !r.OK || r.Version == "" || r.Missing != "" {
		t.Fatalf("%+v, %v", r, err)
	}
}

// TestRealEpochs compares what a session collects with the guest's memory at the moment
// of its checkpoint, over several sessions of one QEMU.
func TestRealEpochs(t *testing.T) {
	g := bootGuest(t, realContext(t))
	g.waitCount(t, 10)
	for range 3 {
		m := &memory{limit: 1 << 30}
		s, err := Arm(g.ctx, g.client, Options{}, m)
		if err != nil {
			t.Fatal(err)
		}
		g.compare(t, m.main())
		if err := s.Ready(); err != nil {
			t.Fatal(err)
		}
		last, n := g.count(t), 0
		g.epochs(t, s, m, 24, func([]byte) {
			now, err := checkCounters(m.main())
			if err != nil || now < last {
				t.Fatalf("epoch %d: %d after %d, %v", n, now, last, err)
			}
			if reg, err := register(g.ctx, g.client); err != nil || reg != now && reg != now+1 {
				t.Fatalf("epoch %d: register %d, memory %d, %v", n, reg, now, err)
			}
			if n++; n%8 == 0 {
				g.compare(t, m.main())
			}
			last = now
		})
		if err := s.Disarm(g.ctx); err != nil {
			t.Fatal(err)
		}
		g.wantRunningFree(t)
	}
}

// TestRealKeepsItsMemory: QEMU does not grow with the number of its checkpoints. One that
// describes its devices would by 60 KiB and more with each.
func TestRealKeepsItsMemory(t *testing.T) {
	g := bootGuest(t, realContext(t))
	g.waitCount(t, 10)
	s, err := Arm(g.ctx, g.client, Options{}, drain{})
	if err == nil {
		err = s.Ready()
	}
	if err != nil {
		t.Fatal(err)
	}
	const epochs, limit = 200, 4 << 20
	g.epochs(t, s, drain{}, 50, nil)
	before := g.anonymous(t)
	g.epochs(t, s, drain{}, epochs, nil)
	if grown := g.anonymous(t) - before; grown > limit {
		t.Errorf("QEMU grew by %d KiB in %d checkpoints", grown>>10, epochs)
	}
	if err := s.Disarm(g.ctx); err != nil {
		t.Fatal(err)
	}
}

// anonymous is how much memory QEMU has of its own, in bytes.
func (g *guest) anonymous(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "RssAnon:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestRealNoWriteMissed begins many sessions, of a guest with so much memory that its first
// copy takes a while: what the guest writes after it must be in the next checkpoints. With
// Options.DowntimeLimit in force, most sessions would miss it under TCG.
func TestRealNoWriteMissed(t *testing.T) {
	g := bootGuest(t, realContext(t), "-m", "512")
	g.waitCount(t, 10)
	for round := range 10 {
		m := &lowest{}
		s, err := Arm(g.ctx, g.client, Options{}, m)
		if err == nil {
			err = s.Ready()
		}
		if err != nil {
			t.Fatal(err)
		}
		g.waitCount(t, g.count(t))
		g.epochs(t, s, m, 2, func([]byte) {
			now, err := checkCounters(m.ram[:])
			if reg, rerr := register(g.ctx, g.client); err != nil || rerr != nil || reg != now && reg != now+1 {
				t.Fatalf("round %d: register %d, memory %d, %v, %v", round, reg, now, err, rerr)
			}
		})
		if err := s.Disarm(g.ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// lowest is a Sink that keeps the counters' part of main RAM.
type lowest struct {
	main int
	ram  [counterEnd]byte
}

func (l *lowest) Layout(_ []byte, blocks []Block) error {
	l.main = slices.IndexFunc(blocks, func(b Block) bool { return b.Name == "pc.ram" })
	return nil
}

func (l *lowest) Page(block int, offset uint64, data []byte) error {
	if block == l.main && offset < counterEnd {
		copy(l.ram[offset:], data)
	}
	return nil
}

func (l *lowest) Fill(block int, offset uint64, value byte) error {
	return l.Page(block, offset, bytes.Repeat([]byte{value}, PageSize))
}

// TestRealBusyGuest: the first copy of a guest that always writes ends. Left alone it does
// by luck, at the median after some 3,000 passes; a minute was not enough for 75 copies.
func TestRealBusyGuest(t *testing.T) {
	g := bootGuest(t, realContext(t))
	g.waitCount(t, 10)
	most := uint64(0)
	for range 100 {
		s, err := Arm(g.ctx, g.client, Options{}, drain{})
		if err == nil {
			most = max(most, s.in.off)
			err = s.Ready()
		}
		if err == nil {
			err = s.Disarm(g.ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.waitCount(t, g.count(t)) // it had the processor, so it was not all read at once
	}
	t.Logf("at most %d MiB of a guest of %d", most>>20, guestMemory>>20)
	g.wantRunningFree(t)
}

// TestRealRestore brings a checkpoint to life in a second QEMU, its main RAM a private
// mapping of the replica's file, as a standby's is.
func TestRealRestore(t *testing.T) {
	ctx := realContext(t)
	g := bootGuest(t, ctx)
	g.waitCount(t, 10)
	m := &memory{limit: 1 << 30}
	s, err := Arm(ctx, g.client, Options{}, m)
	if err == nil {
		err = s.Ready()
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.dir, "pc.ram")
	os.WriteFile(file, make([]byte, guestMemory), 0o600)
	standby, stream := bootStandby(t, ctx, file)
	var state []byte
	var reg uint32
	g.epochs(t, s, m, 25, func(b []byte) {
		state = bytes.Clone(b)
		if reg, err = register(ctx, g.client); err != nil {
			t.Fatal(err)
		}
	})
	g.stop() // the primary dies
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(m.main(), 0)
		f.Close()
	}
	if err == nil {
		err = WriteRestore(stream, image(m, "pc.ram", state))
	}
	stream.Close()
	if err != nil {
		t.Fatal(err)
	}
	waitRun(t, standby, "paused")
	standby.compare(t, m.main())
	n, err := checkCounters(m.main())
	if got, rerr := register(ctx, standby.client); got != reg || err != nil || rerr != nil {
		t.Fatalf("register %d, was %d; memory %d; %v, %v", got, reg, n, err, rerr)
	}
	if err := standby.client.Execute(ctx, "cont", nil, nil); err != nil {
		t.Fatal(err)
	}
	standby.waitCount(t, n)
	secondLife(t, standby)
}

// secondLife: who was restored is a primary like any other.
func secondLife(t *testing.T, g *guest) {
	m := &memory{limit: 1 << 30}
	s, err := Arm(g.ctx, g.client, Options{}, m)
	if err == nil {
		err = s.Ready()
	}
	if err != nil {
		t.Fatal(err)
	}
	g.epochs(t, s, m, 10, func([]byte) {
		if _, err := checkCounters(m.main()); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.Disarm(g.ctx); err != nil {
		t.Fatal(err)
	}
	g.wantRunningFree(t)
}

// bootStandby starts a QEMU that waits for a stream on the pipe returned.
func bootStandby(t *testing.T, ctx context.Context, file string) (*guest, io.WriteCloser) {
	t.Helper()
	g := bootGuest(t, ctx, "-S", "-incoming", "defer", "-machine", "pc,memory-backend=pc.ram", "-object",
		fmt.Sprintf("memory-backend-file,id=pc.ram,size=%d,mem-path=%s,share=off", guestMemory, file))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	t.Cleanup(func() { w.Close() })
	if err = g.client.PassFile(ctx, "in", r); err == nil {
		err = g.client.Execute(ctx, "migrate-incoming", map[string]string{"uri": "fd:in"}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g, w
}

func waitRun(t *testing.T, g *guest, want string) {
	t.Helper()
	for p := (poll{}); ; {
		s, err := queryStatus(g.ctx, g.client)
		if err == nil && s.run == want {
			return
		}
		if err == nil {
			err = p.wait(g.ctx)
		}
		if err != nil {
			t.Fatalf("%v instead of guest %q: %v", s, want, err)
		}
	}
}

// TestRealAgentDies leaves QEMU alone at each point of a session: whoever comes next gets
// the guest to run, and can have a session of its own.
func TestRealAgentDies(t *testing.T) {
	g := bootGuest(t, realContext(t))
	g.waitCount(t, 10)
	dead := errors.New("killed here")
	at := []string{"first copy", "armed", "running", "requested", "stopped", "pages", "captured", "resumed"}
	for name, die := range map[string]func(*testing.T, *guest, net.Conn){"last pass": inLastPassOf, "its end": afterLastPassOf} {
		die(t, g, g.beginCopy(t))
		g.recovered(t)
		t.Logf("%s: recovered", name)
	}
	for i, name := range at {
		g.dieAt(t, i, dead)
		t.Logf("%s: recovered", name)
	}
}

// dieAt plays a session up to a point of TestRealAgentDies' list.
func (g *guest) dieAt(t *testing.T, at int, dead error) {
	var sink Sink = drain{}
	if at == 0 {
		// A dead agent's socket just closes: Arm's own way back must not have a part in it.
		g.closeDuringFirstCopy(t)
		g.recovered(t)
		return
	}
	s, err := Arm(g.ctx, g.client, Options{}, sink)
	if err == nil && at >= 2 {
		err = s.Ready()
	}
	if err == nil && at >= 3 {
		err = s.WaitRequest(g.ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	switch at {
	case 4:
		_, err = s.Capture(g.ctx, func() error { return dead }, sink)
	case 5:
		err = g.dieInPages(s, dead)
	case 6, 7:
		if _, err = s.Capture(g.ctx, nil, sink); err == nil && at == 7 {
			err = s.Resume()
		}
	}
	if want := at == 4 || at == 5; want != errors.Is(err, dead) || !want && err != nil {
		t.Fatal(err)
	}
	s.conn.Close()
	g.recovered(t)
}

// dieInPages fails in the first checkpoint that has a page: the guest may not have had the
// processor in the first one.
func (g *guest) dieInPages(s *Session, dead error) error {
	for {
		_, err := s.Capture(g.ctx, nil, &failing{at: "page", err: dead})
		if err == nil {
			err = s.Resume()
		}
		if err == nil {
			err = s.WaitRequest(g.ctx)
		}
		if err != nil {
			return err
		}
	}
}

// The agent dies when it has had the guest stopped for the last pass of the first copy:
// before it has read that, and when it has.
func inLastPassOf(t *testing.T, g *guest, conn net.Conn) {
	io.ReadFull(conn, make([]byte, 1000))
	g.stopForLastPass(t)
	conn.Close()
}

func afterLastPassOf(t *testing.T, g *guest, conn net.Conn) {
	read := make(chan error, 1)
	go func() { read <- newReader(conn, drain{}).precopy() }()
	g.stopForLastPass(t)
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func (g *guest) stopForLastPass(t *testing.T) {
	t.Helper()
	err := mark(g.ctx, g.client)
	if err == nil {
		err = stop(g.ctx, g.client)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (g *guest) closeDuringFirstCopy(t *testing.T) {
	conn := g.beginCopy(t)
	io.ReadFull(conn, make([]byte, 1000))
	conn.Close()
}

// beginCopy begins a session's first copy as Arm does.
func (g *guest) beginCopy(t *testing.T) net.Conn {
	t.Helper()
	v, err := QueryVersion(g.ctx, g.client)
	o := Options{}
	o.defaults()
	if err == nil {
		err = enable(g.ctx, g.client, v, o)
	}
	var conn net.Conn
	if err == nil {
		conn, err = migrate(g.ctx, g.client)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (g *guest) recovered(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, 5*time.Second)
	defer cancel()
	if err := Recover(ctx, g.client); err != nil {
		t.Fatal(err)
	}
	g.wantRunningFree(t)
}

// TestRealArmFails: after a failed Arm the guest runs, COLO is off, and the next one works.
func TestRealArmFails(t *testing.T) {
	g := bootGuest(t, realContext(t))
	g.waitCount(t, 10)
	full := errors.New("replica is full")
	for _, at := range []string{"layout", "page", "fill"} {
		if _, err := Arm(g.ctx, g.client, Options{}, &failing{at: at, err: full}); !errors.Is(err, full) {
			t.Fatalf("%s: %v", at, err)
		}
		g.wantRunningFree(t)
	}
	cause := errors.New("the order was withdrawn")
	ctx, cancel := context.WithCancelCause(g.ctx)
	_, err := Arm(ctx, g.client, Options{}, &calling{f: func() { cancel(cause) }})
	if !errors.Is(err, cause) {
		t.Fatal(err)
	}
	g.wantRunningFree(t)
	secondLife(t, g)
}

// calling is a Sink that calls f on the first page.
type calling struct {
	drain
	f func()
}

func (c *calling) Page(int, uint64, []byte) error { c.f(); return nil }

// TestRealUntouched: Recover leaves alone what is not ours.
func TestRealUntouched(t *testing.T) {
	g := bootGuest(t, realContext(t))
	if err := g.client.Execute(g.ctx, "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := Recover(g.ctx, g.client); err != nil {
		t.Fatal(err)
	}
	if s, err := queryStatus(g.ctx, g.client); err != nil || s.run != "paused" {
		t.Fatalf("%v, %v", s, err)
	}
	if _, err := Arm(g.ctx, g.client, Options{}, drain{}); err == nil || !strings.Contains(err.Error(), "resume it first") {
		t.Fatal(err)
	}
}

// TestRealPauses logs how long the guest stands still.
func TestRealPauses(t *testing.T) {
	g := bootGuest(t, realContext(t))
	g.waitCount(t, 10)
	m := &memory{limit: 1 << 30}
	s, err := Arm(g.ctx, g.client, Options{}, m)
	if err == nil {
		err = s.Ready()
	}
	if err != nil {
		t.Fatal(err)
	}
	var pauses []time.Duration
	for range 100 {
		if err = s.WaitRequest(g.ctx); err != nil {
			t.Fatal(err)
		}
		<-time.After(pace)
		var stopped time.Time
		_, err := s.Capture(g.ctx, func() error { stopped = time.Now(); return nil }, m)
		if err == nil {
			err = s.Resume()
		}
		if err != nil {
			t.Fatal(err)
		}
		pauses = append(pauses, time.Since(stopped))
	}
	slices.Sort(pauses)
	t.Logf("from stopped to resumed, of 100: median %v, 90th %v, longest %v; %d pages", pauses[50], pauses[90], pauses[99], m.pages)
	if err := s.Disarm(g.ctx); err != nil {
		t.Fatal(err)
	}
}

// TestRecord makes a golden session, with -record.
func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("without -record")
	}
	_, accel := emulator(t)
	g := bootGuest(t, realContext(t))
	g.waitCount(t, 10)
	v, err := QueryVersion(g.ctx, g.client)
	if err != nil {
		t.Fatal(err)
	}
	log := &golden{Version: v}
	s, err := arm(g.ctx, g.client, Options{}, drain{}, func(c net.Conn) net.Conn { return &recorder{Conn: c, log: log} })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Fatal(err)
	}
	g.epochs(t, s, drain{}, 5, nil)
	if err := s.Disarm(g.ctx); err != nil {
		t.Fatal(err)
	}
	if err := log.scrub(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", v.String()+"-"+accel)
	if err := log.save(name + ".session.gz"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".txt", []byte(play(t, log).String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
