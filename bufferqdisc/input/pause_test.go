package input

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestPause: what comes meanwhile reaches the guest after it, in order and as it was, and
// is at the backup as ever.
func TestPause(t *testing.T) {
	l := newLab(t, 2, false)
	m, k := l.protect(Config{})
	a, b := l.primary.guests[0], l.primary.guests[1]
	large := ipFrame(a, false, unix.IPPROTO_TCP, bytes.Repeat([]byte("octets"), 5000), 1400, true)
	for round := uint32(0); round < 30; round += 10 {
		l.primary.send(a, round+1)
		if err := m.Pause(time.Minute); !errors.Is(err, ErrQueued) {
			t.Errorf("a packet is in the queue: %v", err)
		}
		l.primary.send(a, round+2, round+3)
		l.primary.send(b, round+4)
		l.primary.write(large)
		a.wantSeqs(t, round+1)
		if p := append(a.tryReceive(), b.tryReceive()...); p != nil {
			t.Fatalf("a guest got % .40x", p)
		}
		if kept := len(k.keptNow(1)); kept != 1 {
			t.Errorf("kept %d of one", kept)
		}
		taken, err := m.Taken()
		must(t, err)
		k.Forget(taken)
		m.Resume()
		l.primary.send(a, round+5)
		a.wantSeqs(t, round+2, round+3)
		b.wantSeqs(t, round+4)
		if got := a.await(t); !bytes.Equal(got[vnetHeader:], large[vnetHeader:]) || !bytes.Equal(got[:8], large[:8]) {
			t.Errorf("the large packet came as % .60x, was % .60x", got, large)
		}
		a.wantSeqs(t, round+5)
		taken, err = m.Taken()
		must(t, err)
		k.Forget(taken)
	}
	m.account(0).large = time.Time{}
	taken, err := m.Taken()
	must(t, err)
	if taken[0] != 15 || taken[1] != 3 {
		t.Errorf("taken %v", taken)
	}
}

// TestPauseWaitsForTheQueue: what came before it, the guest has when it returns.
func TestPauseWaitsForTheQueue(t *testing.T) {
	l := newLab(t, 1, false)
	m, _ := l.protect(Config{})
	g := l.primary.guests[0]
	for n := range uint32(5) {
		l.primary.send(g, n)
		m.patience = patience
		paused := make(chan error)
		go func() { paused <- m.Pause(time.Minute) }()
		select {
		case err := <-paused:
			t.Fatalf("paused with a packet in the queue: %v", err)
		case <-time.After(drainFor / 4):
		}
		g.wantSeqs(t, n)
		must(t, <-paused)
		if m.Resume(); m.patience != drainFor {
			t.Errorf("its patience is %v", m.patience)
		}
	}
	l.primary.send(g, 9)
	for range 10 { // a guest that does not take it is not waited for every time
		if err := m.Pause(time.Minute); !errors.Is(err, ErrQueued) {
			t.Fatal(err)
		}
		m.Resume()
	}
	if m.patience != drainLeast {
		t.Errorf("still %v", m.patience)
	}
	g.wantSeqs(t, 9)
	must(t, m.Pause(time.Minute))
	if m.Resume(); m.patience != drainFor {
		t.Errorf("still %v, though it takes all", m.patience)
	}
}

// TestPauseOfTheDead: nothing waits for a guest whose process has ended, though it has a
// packet in its tap's queue and more have waited than that has room for.
func TestPauseOfTheDead(t *testing.T) {
	l := newLab(t, 1, false)
	ended := make(chan struct{})
	k := l.keep(Config{})
	m, err := NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports(), Ended: ended})
	must(t, err)
	must(t, m.Start())
	m.patience = time.Hour
	l.primary.send(l.primary.guests[0], 1)
	paused := make(chan error, 1)
	go func() { paused <- m.Pause(time.Hour) }()
	waits := m.sources[0].copier.shared()
	await(t, "the pause does not begin", func(uint32) bool { return waits.wait.Load() != 0 })
	const packets = 1500 // the queue has room for 1000
	for s := range uint32(packets) {
		l.primary.send(l.primary.guests[0], s)
	}
	if held := waits.held.Load(); held < packets {
		t.Fatalf("%d of %d wait", held, packets)
	}
	select {
	case err := <-paused:
		t.Fatalf("paused with a packet in the queue: %v", err)
	default:
	}
	close(ended)
	if err := within(t, "Pause waits for the dead", paused); !errors.Is(err, ErrQueued) {
		t.Error(err)
	}
	m.patience = time.Hour
	resumed := make(chan error, 1)
	go func() { m.Resume(); resumed <- m.Close() }()
	must(t, within(t, "Resume or Close waits for the dead", resumed))
}

// within fails the test, with what went wrong, if no answer comes in time.
func within(t *testing.T, what string, answer <-chan error) error {
	t.Helper()
	select {
	case err := <-answer:
		return err
	case <-time.After(patience):
		t.Fatal(what)
		return nil
	}
}

// TestLongPause: more than fits the tap's queue has waited, and a guest that reads gets it.
func TestLongPause(t *testing.T) {
	l := newLab(t, 1, false)
	m, _ := l.protect(Config{})
	g := l.primary.guests[0]
	must(t, m.Pause(time.Minute))
	const packets = 1500 // the queue has room for 1000
	for s := range uint32(packets) {
		l.primary.send(g, s)
	}
	m.patience = patience
	resumed := make(chan struct{})
	go func() { m.Resume(); close(resumed) }()
	await(t, "the queue has room for all", func(uint32) bool {
		tap, err := m.h.LinkByIndex(m.sources[0].tap.Index)
		must(t, err)
		return tap.Attrs().Statistics.TxDropped > 0 // and each try is one more
	})
	g.wantSeqs(t, counting(0, packets-2)...)
	<-resumed
	if taken, err := m.Taken(); err != nil || taken[0] == packets {
		t.Errorf("taken %d of %d, one of which is in the queue; %v", taken, packets, err)
	}
	g.wantSeqs(t, packets-1)
	if taken, err := m.Taken(); err != nil || taken[0] != packets {
		t.Errorf("taken %d of %d, all read; %v", taken, packets, err)
	}
}

// TestPauseEndsByItself: a process that forgets to resume, or hangs, keeps nobody waiting.
func TestPauseEndsByItself(t *testing.T) {
	l := newLab(t, 1, false)
	m, _ := l.protect(Config{})
	g := l.primary.guests[0]
	must(t, m.Pause(50*time.Millisecond))
	await(t, "the guest gets nothing any more", func(n uint32) bool {
		l.primary.send(g, n)
		return g.sees(n)
	})
}

// TestCloseInAPause lets the guest have what waits.
func TestCloseInAPause(t *testing.T) {
	l := newLab(t, 1, false)
	m, _ := l.protect(Config{})
	g := l.primary.guests[0]
	must(t, m.Pause(time.Minute))
	l.primary.send(g, 1)
	must(t, m.Close())
	l.primary.send(g, 2)
	g.wantSeqs(t, 1, 2)
	must(t, m.Pause(time.Minute))
	m.Resume()
}

// await is the guest getting the next frame, with its vnet header.
func (g *guest) await(t *testing.T) (p []byte) {
	t.Helper()
	await(t, "nothing came", func(uint32) bool {
		p = g.read()
		return p != nil
	})
	return p
}

func (m *Mirror) account(nic int) *account { return m.sources[nic].account }

// TestNothingIsLostInBetween: once a guest's tap has been hooked, copies may end and begin
// again, with pauses, under full traffic, and the guest gets every packet, once. One that is
// on its way to wait when the waiting ends may be overtaken.
func TestNothingIsLostInBetween(t *testing.T) {
	l := newLab(t, 1, false)
	m, k := l.protect(Config{})
	g := l.primary.guests[0]
	ended := make(chan error, 1)
	go func() {
		var err error
		for range 20 {
			err = errors.Join(err, m.Close())
			next, e := l.again(k)
			if err = errors.Join(err, e); err != nil {
				break
			}
			m = next
			for range 5 {
				if e := m.Pause(time.Minute); !errors.Is(e, ErrQueued) {
					err = errors.Join(err, e)
				}
				m.Resume()
			}
		}
		ended <- errors.Join(err, m.Close())
	}()
	missing := map[uint32]bool{} // sent and not received
	overtaken := 0
	check := func() {
		for p := g.tryReceive(); p != nil; p = g.tryReceive() {
			got := seqsOf([][]byte{p})[0]
			if !missing[got] {
				t.Fatalf("got %d twice", got)
			}
			delete(missing, got)
			if missing[got-1] {
				overtaken++
			}
		}
	}
	for sent := uint32(0); ; {
		if len(missing) < 500 { // what waits in a long pause must fit the tap's queue
			missing[sent] = true
			l.primary.send(g, sent)
			sent++
		}
		check()
		select {
		case err := <-ended:
			must(t, err)
			await(t, "the guest did not get all", func(uint32) bool { check(); return len(missing) == 0 })
			if t.Logf("%d sent, %d overtaken", sent, overtaken); overtaken > 20 {
				t.Error("more than now and then")
			}
			return
		default:
		}
	}
}

// again is NewMirror and Start on the primary, from any goroutine.
func (l *lab) again(k *Keeper) (*Mirror, error) {
	runtime.LockOSThread() // not unlocked: the thread has changed its namespace
	if err := netns.Set(l.primary.ns); err != nil {
		return nil, err
	}
	m, err := NewMirror(MirrorConfig{Name: "guest", Taps: l.primary.taps(), To: l.backup.addr, Ports: k.Ports()})
	if err != nil {
		return nil, err
	}
	return m, m.Start()
}

// TestPauseUnderTraffic: a guest that takes all is not waited for in vain, whatever comes in
// the instant of the pause.
func TestPauseUnderTraffic(t *testing.T) {
	l := newLab(t, 1, false)
	m, _ := l.protect(Config{})
	g := l.primary.guests[0]
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	traffic.Go(func() {
		for n := uint32(0); ; n += 16 {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				l.primary.send(g, counting(n, n+15)...)
			}
		}
	})
	var emptied atomic.Uint64 // times that the guest has found its queue empty
	traffic.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				for g.read() != nil {
				}
				emptied.Add(1)
				unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, 1)
			}
		}
	})
	vain := 0
	const pauses = 1000
	for range pauses {
		before := emptied.Load()
		if err := m.Pause(time.Minute); errors.Is(err, ErrQueued) {
			if emptied.Load()-before > 2 { // else it had no processor
				vain++
			}
		} else if err != nil {
			t.Error(err)
		}
		m.patience = drainFor
		m.Resume()
	}
	close(stop)
	traffic.Wait()
	t.Logf("%d of %d in vain", vain, pauses)
	if vain > 3 { // a packet's way may be interrupted, for want of a processor
		t.Error("waited for packets that waited")
	}
}
