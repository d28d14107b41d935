package commit

import (
	"cmp"
	"slices"
	"time"
)

// sighting is a frame where the guest emitted it, and where it was seen on the network.
type sighting struct {
	packet            // as the guest emitted it
	right             // from when it may be outside
	seen    time.Time // on the network; zero: never
	alike   bool      // there are others like it
	accused bool      // of having left early
}

// matched is what became of one host's frames.
type matched struct {
	clocks    time.Duration     // two of them may differ by that
	announced func(packet) bool // hamgr may have sent it in the guest's name
	announces int
	emitted   []*sighting // by the time of emission
	early     []early
	strange   []packet // on the network, and the guest had not emitted it
}

// early is a frame on the network that had no right to be there yet.
type early struct {
	packet           // as seen on the network
	cause  *sighting // the emission that it must stem from
}

// match finds for each frame on the network the emission it stems from. Frames that are
// all alike cannot be told apart: there the k-th on the network is right if by then at
// least k had the right to be. That never accuses wrongly, and a frame that is unlike
// all others is judged exactly.
func match(o *output, inside, outside []packet, clocks time.Duration, announced func(packet) bool) matched {
	m := matched{clocks: clocks, announced: announced}
	alike := map[string][]*sighting{}
	for _, p := range inside {
		s := &sighting{packet: p, right: o.right(p.Time)}
		m.emitted = append(m.emitted, s)
		s.alike = len(alike[p.key]) > 0
		for _, other := range alike[p.key] {
			other.alike = true
		}
		alike[p.key] = append(alike[p.key], s)
	}
	for _, p := range outside {
		m.assign(p, alike[p.key])
	}
	return m
}

// assign gives a frame on the network to the last emission, among those that are alike
// and not given away, which has the right to go: the earlier ones may have been lost. With
// none, it is early.
func (m *matched) assign(p packet, alike []*sighting) {
	var best, cause *sighting
	latest := p.Time.Add(m.clocks)
	for _, s := range alike {
		if !s.seen.IsZero() || s.Time.After(latest) {
			continue
		}
		cause = s
		if !s.from.IsZero() && !s.from.After(latest) {
			best = s
		}
	}
	switch {
	case best != nil:
		best.seen = p.Time
	case m.announced(p): // the very octets of what QEMU sends for the guest, perhaps
		m.announces++
	case cause != nil:
		cause.seen, cause.accused = p.Time, true
		m.early = append(m.early, early{p, cause})
	default:
		m.strange = append(m.strange, p)
	}
}

// byTime sorts, in place.
func byTime(ps []packet) []packet {
	slices.SortStableFunc(ps, func(a, b packet) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Device, b.Device))
	})
	return ps
}
