package storage

import "errors"

// Disk is a writable disk of a guest as a part of its replica: fenced by generation as the
// memory is, and committed with it or not at all (invariants I2, I4, I5). Nothing offers one
// yet: hamgr refuses guests with writable disks.
type Disk interface {
	// Commit makes what the guest wrote until the epoch's barrier part of the replica. The
	// whole of it has arrived, or it is an error; after an error the disk is of no use.
	Commit(epoch uint64) error
	// Freeze undoes what is not committed. From its return on nothing is written on behalf
	// of an older generation, whoever sends it.
	Freeze(generation uint64) error
}

// Attach makes a disk part of the replica. Errors: ErrIncomplete, once something was
// committed without it.
func (r *Replica) Attach(d Disk) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.committed > 0 {
		return errors.Join(ErrIncomplete, errors.New("storage: a disk comes before the first commit"))
	}
	r.disks = append(r.disks, d)
	return nil
}

// commitDisks goes before the memory: what fails here leaves the guest's images as they were,
// but not its other disks.
func (r *Replica) commitDisks(epoch uint64) error {
	for _, d := range r.disks {
		if r.broken = d.Commit(epoch); r.broken != nil {
			return r.usable()
		}
	}
	return nil
}

// freezeDisks breaks the replica where that fails: two guests might write to one disk.
func (r *Replica) freezeDisks(generation uint64) {
	for _, d := range r.disks {
		if err := d.Freeze(generation); err != nil && r.broken == nil {
			r.broken = err
		}
	}
}
