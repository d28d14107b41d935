package storage

import (
	"fmt"

	"github.com/hamgr/hamgr/storage/wire"
)

// stage is a checkpoint on its way in; the memory of one is used for the next.
type stage struct {
	epoch  uint64 // 0: none under way
	pages  [][]byte
	used   int
	count  uint64
	device []byte
}

func (s *stage) reset(epoch uint64) {
	s.epoch, s.used, s.count, s.device = epoch, 0, 0, s.device[:0]
}

func (s *stage) add(payload []byte) {
	if s.used == len(s.pages) {
		s.pages = append(s.pages, nil)
	}
	s.pages[s.used] = append(s.pages[s.used][:0], payload...)
	s.used++
}

// Begin starts staging an epoch. Errors: ErrStale when the generation is not served any
// more, ErrIncomplete when the epoch is not the next one.
func (r *Replica) Begin(generation, epoch uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.serves(generation); err != nil {
		return err
	}
	if epoch != r.committed+1 {
		return fmt.Errorf("%w: epoch %d after %d", ErrIncomplete, epoch, r.committed)
	}
	r.stage.reset(epoch)
	return nil
}

func (r *Replica) serves(generation uint64) error {
	if generation < r.frozen {
		return fmt.Errorf("%w: %d of %s, now %d", ErrStale, generation, r.id.Domain, r.frozen)
	}
	return r.broken
}

// AddPages stages a PAGES payload, every record of it checked.
func (r *Replica) AddPages(payload []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stage.epoch == 0 {
		return fmt.Errorf("%w: pages outside of a checkpoint", ErrIncomplete)
	}
	err := wire.ParsePages(payload, func(p wire.Page) error {
		r.stage.count++
		return r.check(p)
	})
	if err == nil {
		r.stage.add(payload)
	}
	return err
}

// SetDeviceState stages the device state.
func (r *Replica) SetDeviceState(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stage.device = append(r.stage.device[:0], b...)
}

// Commit applies the staged checkpoint if it is whole and its generation still served.
// From its return on a failover restores it; before, the one before it.
func (r *Replica) Commit(generation, epoch, pages uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.stage
	if err := r.serves(generation); err != nil {
		return err
	}
	if s.epoch != epoch || s.epoch == 0 || s.count != pages || len(s.device) == 0 {
		return fmt.Errorf("%w: epoch %d has %d of %d pages and %d bytes of device state", ErrIncomplete, epoch, s.count, pages, len(s.device))
	}
	if err := r.commitDisks(epoch); err != nil {
		return err
	}
	for _, p := range s.pages[:s.used] {
		if err := wire.ParsePages(p, r.apply); err != nil {
			r.broken = err
			return fmt.Errorf("%w: %v", ErrBroken, err)
		}
	}
	r.committed = epoch
	r.device, s.device = s.device, r.device
	s.reset(0)
	return nil
}
