package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hamgr/hamgr/storage/wire"
	"golang.org/x/sys/unix"
)

// Errors of a replica.
var (
	// ErrStale: the data is of a generation that this replica no longer serves.
	ErrStale = errors.New("storage: stale generation")
	// ErrIncomplete: what arrived is not a whole checkpoint.
	ErrIncomplete = errors.New("storage: incomplete checkpoint")
	// ErrBroken: applying a checkpoint failed half-way; the images are of no use.
	ErrBroken = errors.New("storage: replica broken while a checkpoint was applied")
	// ErrEmpty: nothing has been committed yet.
	ErrEmpty = errors.New("storage: no committed checkpoint")
)

// file is what a replica does to an image; a test breaks one call of it.
type file interface {
	WriteAt(p []byte, off int64) (int, error)
	ReadAt(p []byte, off int64) (int, error)
	Close() error
}

// Identity says whose replica it is.
type Identity struct {
	Domain     string
	Generation uint64
}

// Replica is the last committed checkpoint of one guest. Safe for concurrent use.
type Replica struct {
	id     Identity
	dir    string
	layout wire.Layout
	main   int // index of the main RAM's block

	mu        sync.Mutex // guards what follows
	images    []file     // by block
	disks     []Disk
	frozen    uint64 // generations below are refused
	committed uint64 // epoch, 0: none
	device    []byte // of the committed epoch
	stage     stage
	broken    error
}

// Create makes an empty replica. The file at ramPath, which exists, becomes the image of
// block mainRAM; the other blocks get files in dir. All the memory it will ever need is
// reserved here, so that no commit fails for want of it.
func Create(dir string, id Identity, layout wire.Layout, ramPath, mainRAM string) (*Replica, error) {
	r := &Replica{id: id, dir: dir, layout: layout, main: -1, frozen: id.Generation}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("storage: replica of %s: %w", id.Domain, err)
	}
	for i, b := range layout.Blocks {
		path := filepath.Join(dir, fmt.Sprintf("block-%d", i))
		if b.Name == mainRAM {
			path, r.main = ramPath, i
		}
		f, err := reserve(path, b.Size)
		if err != nil {
			r.Discard()
			return nil, fmt.Errorf("storage: replica of %s, %d MiB for block %s: %w; free memory on this host's tmpfs", id.Domain, b.Size>>20, b.Name, err)
		}
		r.images = append(r.images, f)
	}
	if r.main < 0 {
		r.Discard()
		return nil, fmt.Errorf("storage: %s has no RAM block %q, only %s", id.Domain, mainRAM, names(layout))
	}
	return r, nil
}

func reserve(path string, size uint64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func names(l wire.Layout) string {
	var n []string
	for _, b := range l.Blocks {
		n = append(n, b.Name)
	}
	return strings.Join(n, ", ")
}

// WritePages writes page records straight into the images: the first copy, before the
// first commit makes the replica one.
func (r *Replica) WritePages(payload []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.committed > 0 {
		return fmt.Errorf("%w: pages outside of a checkpoint", ErrIncomplete)
	}
	return wire.ParsePages(payload, r.apply)
}

var zeroPage [wire.PageSize]byte

func (r *Replica) apply(p wire.Page) error {
	if err := r.check(p); err != nil {
		return err
	}
	data := p.Data
	if data == nil {
		data = zeroPage[:]
		if p.Value != 0 {
			data = make([]byte, wire.PageSize)
			for i := range data {
				data[i] = p.Value
			}
		}
	}
	_, err := r.images[p.Block].WriteAt(data, int64(p.Offset))
	return err
}

func (r *Replica) check(p wire.Page) error {
	if p.Block >= len(r.images) || p.Offset+wire.PageSize > r.layout.Blocks[p.Block].Size {
		return fmt.Errorf("%w: page at %#x of block %d is outside of the guest's memory", wire.ErrCorrupt, p.Offset, p.Block)
	}
	return nil
}

// Freeze refuses everything of older generations from now on and drops what is half
// received. What is committed can then be restored. Errors: ErrEmpty, ErrBroken.
func (r *Replica) Freeze(generation uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = max(r.frozen, generation)
	r.stage.reset(0)
	r.freezeDisks(r.frozen)
	return r.usable()
}

func (r *Replica) usable() error {
	if r.broken != nil {
		return fmt.Errorf("%w: %v", ErrBroken, r.broken)
	}
	if r.committed == 0 {
		return fmt.Errorf("%w of %s", ErrEmpty, r.id.Domain)
	}
	return nil
}

// Committed is the newest committed epoch; ok is false when there is none to restore.
func (r *Replica) Committed() (epoch uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.committed, r.usable() == nil
}

// Identity says whose replica it is, and of which generation.
func (r *Replica) Identity() Identity { return r.id }

// Layout is the guest's memory.
func (r *Replica) Layout() wire.Layout { return r.layout }

// DeviceState is the committed checkpoint's device state.
func (r *Replica) DeviceState() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.device
}

// OtherPages yields every page of every block but the main RAM.
func (r *Replica) OtherPages(yield func(block int, offset uint64, data []byte) error) error {
	buf := make([]byte, wire.PageSize)
	for i, b := range r.layout.Blocks {
		if i == r.main {
			continue
		}
		for off := uint64(0); off < b.Size; off += wire.PageSize {
			if _, err := r.images[i].ReadAt(buf, int64(off)); err != nil {
				return err
			}
			if err := yield(i, off, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

// Discard closes the images and removes all files but the main RAM's, which is its QEMU's.
func (r *Replica) Discard() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = ^uint64(0)
	for _, f := range r.images {
		f.Close()
	}
	r.images = nil
	return os.RemoveAll(r.dir)
}
