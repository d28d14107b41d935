package commit

import (
	"slices"
	"time"
)

// at is the stretch of an instant.
func (o *output) at(g time.Time) stretch {
	i, found := slices.BinarySearchFunc(o.stretches, g, func(s stretch, g time.Time) int { return s.from.Compare(g) })
	if !found {
		i--
	}
	return o.stretches[max(i, 0)]
}

// epoch is the index of the boundary that ended the epoch of an instant in a stay; -1:
// it has not ended.
func (o *output) epoch(g time.Time, instance int) int {
	i, _ := slices.BinarySearchFunc(o.boundaries, g, func(b boundary, g time.Time) int { return b.at.Compare(g) })
	if i < len(o.boundaries) && o.boundaries[i].instance == instance {
		return i
	}
	return -1
}

// right is from when a frame may be on the network.
type right struct {
	stretch
	boundary int       // that ended the frame's epoch; -1: none
	from     time.Time // zero: never
}

func (o *output) right(g time.Time) right {
	r := right{stretch: o.at(g), from: g}
	r.boundary = o.epoch(g, r.instance)
	if r.state == free {
		return r
	}
	r.from = time.Time{}
	if r.boundary >= 0 {
		r.from = o.boundaries[r.boundary].explained
	}
	if r.left && (r.from.IsZero() || r.until.Before(r.from)) {
		r.from = r.until
	}
	return r
}
