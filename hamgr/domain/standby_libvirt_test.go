package domain

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirt"
)

// TestLibvirtActivate: what was written into the RAM file while the standby waited is what
// the guest sees; and the guest that runs is an ordinary domain in the user's words.
func TestLibvirtActivate(t *testing.T) {
	b := newBench(t)
	before := b.guest("dom-activate")
	c := b.copyOf(before.Name)
	b.must(b.h.Destroy(b.ctx, before.Name))
	s := b.standby(before.XML)
	b.quietWhileWaiting(s)

	pattern := bytes.Repeat([]byte("replica "), 1<<17)
	const at = 32 << 20
	copy(c.ram[c.main()][at:], pattern)
	ram, err := os.OpenFile(s.RAMPath, os.O_RDWR, 0)
	b.must(err)
	_, err = ram.WriteAt(c.ram[c.main()], 0)
	b.must(errors.Join(err, ram.Close()))
	b.must(s.Untouched())

	b.must(s.Activate(b.ctx, c.restore))
	b.must(s.Settle(b.ctx))
	t.Logf("%+v", s.Timing())
	if got := b.memory(s.Name, at, len(pattern)); !bytes.Equal(got, pattern) {
		t.Error("the guest does not see what is in its RAM file")
	}
	b.ordinary(before, s)
	b.must(s.Discard())
	if i := b.look(s.Name); i.State != "running" {
		t.Errorf("%s after Discard of a standby that was let run", i.State)
	}
	b.must(b.h.Destroy(b.ctx, s.Name))
	b.persists(s)
}

// quietWhileWaiting: libvirt's job on a waiting standby blocks neither its XML nor its
// state, and its taps are down.
func (b *bench) quietWhileWaiting(s *Standby) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	start := time.Now()
	i, err := b.h.Lookup(ctx, s.Name)
	b.must(err)
	b.Logf("looked up in %s: %s (%s), PID %d", time.Since(start).Round(time.Microsecond), i.State, i.Reason, i.PID)
	if i.State != "waiting" || i.Running() || i.PID != s.PID {
		b.Errorf("a waiting standby is %s, PID %d", i.State, i.PID)
	}
	for _, n := range s.NICs {
		if n.Bridge != "br0" || !strings.HasPrefix(n.Tap, tapPrefix) {
			b.Errorf("interface %+v", n)
		}
		for line := range strings.Lines(b.links()) {
			if strings.HasPrefix(line, n.Tap) && strings.Contains(line, "UP") {
				b.Errorf("up while it waits: %s", line)
			}
		}
	}
}

func (b *bench) ordinary(before Info, s *Standby) {
	b.Helper()
	i := b.look(s.Name)
	if i.State != "running" || i.UUID != before.UUID || i.QEMUVersion == "" || i.PID != s.PID || len(i.NICs) != 2 {
		b.Errorf("after Activate: %+v", i)
	}
	if p := b.h.Protectable(b.ctx, i); len(p) > 0 {
		b.Errorf("cannot be protected again: %q", p)
	}
	for _, n := range i.NICs {
		for line := range strings.Lines(b.links()) {
			if strings.HasPrefix(line, n.Tap) && !strings.Contains(line, "UP") {
				b.Errorf("not up: %s", line)
			}
		}
	}
	_, again, err := standbyXML(i.XML, "second")
	b.must(err)
	plain, err := plainXML(again)
	b.must(err)
	b.userWords(plain)
}

// userWords checks a definition against firmwareGuest.
func (b *bench) userWords(xml string) {
	b.Helper()
	d, err := parse(xml)
	b.must(err)
	if d.Metadata != nil || d.MemoryBacking != nil {
		b.Errorf("hamgr's words are left: %s", xml)
	}
	n := d.Devices.Interfaces
	if n[1].Target == nil || n[1].Target.Dev != "uplink7" || n[0].Target != nil {
		b.Errorf("names of taps: %+v, %+v", n[0].Target, n[1].Target)
	}
}

func (b *bench) persists(s *Standby) {
	b.Helper()
	i := b.look(s.Name)
	// How it ended is libvirt's to word: a standby ended in mid-restore has "failed".
	if i.State != "shut off" {
		b.Errorf("%s, end %d", i.State, i.End)
	}
	b.userWords(i.XML)
	b.undefine(s.Name)
}

func (b *bench) undefine(name string) {
	b.Helper()
	b.must(b.h.on(b.ctx, name, "undefine", func(d *libvirt.Domain) error { return d.Undefine() }))
	if _, err := b.h.Lookup(b.ctx, name); !errors.Is(err, ErrNoDomain) {
		b.Errorf("after undefine: %v", err)
	}
}

// TestLibvirtDiscard: nothing of a standby is left, and the user's definition is.
func TestLibvirtDiscard(t *testing.T) {
	b := newBench(t)
	before := b.guest("dom-discard")
	b.must(b.h.Define(b.ctx, before.XML))
	b.must(b.h.Destroy(b.ctx, before.Name))
	s := b.standby(before.XML)
	start := time.Now()
	b.must(s.Discard())
	t.Logf("discarded in %s", time.Since(start).Round(time.Millisecond))
	b.must(s.Discard())
	b.nothingLeft(s)
	b.persists(s)
}

// TestLibvirtBadStream: a stream that QEMU does not take, or that breaks off, is an error
// with libvirt's reason, and nothing is left.
func TestLibvirtBadStream(t *testing.T) {
	b := newBench(t)
	before := b.guest("dom-bad")
	b.must(b.h.Destroy(b.ctx, before.Name))
	broken := errors.New("the replica cannot be read")
	for name, write := range map[string]func(io.Writer) error{
		"garbage": func(w io.Writer) error { _, err := w.Write(make([]byte, 1<<16)); return err },
		"empty":   func(io.Writer) error { return nil },
		"broken":  func(io.Writer) error { return broken },
	} {
		s := b.standby(before.XML)
		err := s.Activate(b.ctx, write)
		t.Logf("%s: %v", name, err)
		if err == nil || name == "broken" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		b.must(s.Discard())
		b.nothingLeft(s)
	}
	if _, err := b.h.Lookup(b.ctx, before.Name); !errors.Is(err, ErrNoDomain) {
		t.Errorf("left: %v", err)
	}
}

// TestLibvirtBusy: a guest of the user's that runs is not touched.
func TestLibvirtBusy(t *testing.T) {
	b := newBench(t)
	before := b.guest("dom-busy")
	_, err := b.h.PrepareStandby(b.ctx, StandbySpec{XML: before.XML, MemoryDir: memoryDir, RunDir: b.dir})
	if !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	if i := b.look(before.Name); i.PID != before.PID || i.State != "running" {
		t.Errorf("the user's guest: %+v", i)
	}
}

// TestLibvirtCleanStale ends what waits, and nothing else.
func TestLibvirtCleanStale(t *testing.T) {
	b := newBench(t)
	before := b.guest("dom-stale")
	user := b.guestLike(before, "dom-user")
	b.must(b.h.Destroy(b.ctx, before.Name))
	s := b.standby(before.XML)
	b.must(CleanStale(b.ctx, b.h, b.dir))
	select {
	case <-s.Ended():
	case <-time.After(patience):
		t.Fatal("the standby lives on")
	}
	b.nothingLeft(s)
	if i := b.look(user.Name); i.PID != user.PID || i.State != "running" {
		t.Errorf("the user's guest: %+v", i)
	}
	b.must(s.Discard())
}

// guestLike starts another guest without interfaces.
func (b *bench) guestLike(i Info, name string) Info {
	b.Helper()
	d, err := parse(i.XML)
	b.must(err)
	d.Name, d.UUID, d.Devices.Interfaces = name, "", nil
	text, err := d.Marshal()
	b.must(err)
	b.must(b.h.withConnection(func(c *libvirt.Connect) error {
		d, err := c.DomainCreateXML(text, 0)
		if err != nil {
			return err
		}
		return d.Free()
	}))
	b.Cleanup(func() { b.h.Destroy(context.Background(), name) })
	return b.look(name)
}
