package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// diary is a disk that writes down what is asked of it, and refuses what it is told to.
type diary struct {
	said   []string
	refuse string
}

func (d *diary) note(format string, args ...any) error {
	word := fmt.Sprintf(format, args...)
	if word == d.refuse {
		return errors.New("no space left")
	}
	d.said = append(d.said, word)
	return nil
}

func (d *diary) Commit(epoch uint64) error      { return d.note("commit %d", epoch) }
func (d *diary) Freeze(generation uint64) error { return d.note("freeze %d", generation) }

// TestDisk: a disk is committed with each checkpoint, before it is acknowledged, and fenced
// by a failover before anything of the guest can run.
func TestDisk(t *testing.T) {
	r, _ := newReplica(t)
	d := &diary{}
	if err := r.Attach(d); err != nil {
		t.Fatal(err)
	}
	s, _, _ := connect(t, r, nil)
	for epoch := range uint64(2) {
		if err := ship(t.Context(), s, checkpoint(epoch+1, map[int]byte{1: 1})); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Freeze(8); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(7, 3, 0); !errors.Is(err, ErrStale) {
		t.Errorf("%v, want ErrStale", err)
	}
	if want := []string{"commit 1", "commit 2", "freeze 8"}; !slices.Equal(d.said, want) {
		t.Errorf("the disk was told %q, want %q", d.said, want)
	}
	if err := r.Attach(&diary{}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("one more disk after a commit: %v", err)
	}
}

// TestDiskThatFails: what it does not have the memory does not get, and where it cannot be
// fenced, nobody runs the guest.
func TestDiskThatFails(t *testing.T) {
	for _, refuse := range []string{"commit 2", "freeze 8"} {
		r, ram := newReplica(t)
		first, d := &diary{}, &diary{refuse: refuse}
		if err := errors.Join(r.Attach(first), r.Attach(d)); err != nil {
			t.Fatal(err)
		}
		s, _, _ := connect(t, r, nil)
		if err := ship(t.Context(), s, checkpoint(1, map[int]byte{1: 1})); err != nil {
			t.Fatal(err)
		}
		before := image(t, ram)
		if err := ship(t.Context(), s, checkpoint(2, map[int]byte{1: 2})); (err != nil) != (refuse == "commit 2") {
			t.Errorf("%s: %v", refuse, err)
		}
		if refuse == "commit 2" && !bytes.Equal(before, image(t, ram)) {
			t.Error("the memory is that of an epoch that the disk has not")
		}
		if err := r.Freeze(8); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: to be restored: %v", refuse, err)
		}
		if !slices.Contains(first.said, "freeze 8") {
			t.Errorf("%s: the other disk is not fenced: %q", refuse, first.said)
		}
	}
}
