package sim

import (
	"slices"
	"time"
)

const (
	// salts are how many sequences of chances a smaller schedule is tried with: without one
	// of its faults all later chances fall otherwise.
	salts = 6
	// shrinkRuns bounds the work.
	shrinkRuns = 6_000
)

// Shrink finds a schedule with fewer and simpler faults that fails the same check, and
// what the check then says. It is as good as s at the least. The same schedule shrinks to
// the same one.
func Shrink(s Schedule, m Mutant) (Schedule, *Violation) {
	x := &shrinker{world: NewWorld(nil), mutant: m, left: shrinkRuns, best: s}
	if x.violation, _ = x.world.Run(s, m); x.violation == nil {
		return s, nil
	}
	for size := weigh(s) + 1; weigh(x.best) < size && x.left > 0; {
		size = weigh(x.best)
		x.dropFaults()
		x.dropVMs()
		x.dropHosts()
		x.calmNetwork()
		x.simplify()
	}
	return x.best, x.violation
}

type shrinker struct {
	world     *World
	mutant    Mutant
	left      int // runs
	best      Schedule
	violation *Violation
}

// weigh is how much there is to read in a schedule.
func weigh(s Schedule) time.Duration {
	w := time.Duration(len(s.Faults)+len(s.VMs)+s.Hosts+s.Managers) * time.Minute
	for _, f := range s.Faults {
		w += f.For
	}
	return w + s.Jitter + s.Latency + time.Duration(s.Loss)
}

// try takes s if it fails too, with the chances as they were or with others.
func (x *shrinker) try(s Schedule) bool {
	first := s.Salt
	for i := range uint64(salts) {
		if x.left--; x.left < 0 {
			return false
		}
		s.Salt = first + i
		if v, _ := x.world.Run(s, x.mutant); v != nil && v.Check == x.violation.Check {
			x.best, x.violation = s, v
			return true
		}
	}
	return false
}

// dropFaults is delta debugging: halves of them, then quarters, down to each by itself.
func (x *shrinker) dropFaults() {
	for n := len(x.best.Faults); n > 0; n /= 2 {
		for i := 0; i < len(x.best.Faults); {
			s := x.best
			s.Faults = slices.Delete(slices.Clone(s.Faults), i, min(i+n, len(s.Faults)))
			if !x.try(s) {
				i += n
			}
		}
	}
}

// dropVMs leaves out guests, with the faults that are about them.
func (x *shrinker) dropVMs() {
	for g := len(x.best.VMs) - 1; g >= 0 && len(x.best.VMs) > 1; g-- {
		s := x.best
		s.VMs = slices.Delete(slices.Clone(s.VMs), g, g+1)
		s.Faults = nil
		for _, f := range x.best.Faults {
			about := f.VM == g && f.Kind.aboutVM() || f.Target.of(g) || f.Peer.of(g) && f.Kind.betweenTwo()
			if !about {
				f.VM = min(without(f.VM, g), len(s.VMs)-1)
				f.Target, f.Peer = f.Target.without(g), f.Peer.without(g)
				s.Faults = append(s.Faults, f)
			}
		}
		x.try(s)
	}
}

// dropHosts leaves out the last one, if nothing names it.
func (x *shrinker) dropHosts() {
	for x.best.Hosts > 3 {
		s := x.best
		s.Hosts--
		s.Managers = 3
		if s.names(s.Hosts) || !x.try(s) {
			return
		}
	}
}

// names says whether a schedule speaks of a host by its number.
func (s Schedule) names(host int) bool {
	return slices.ContainsFunc(s.VMs, func(g VM) bool { return g.Primary == host || g.Pinned == host }) ||
		slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Target == Target(host) || f.Peer == Target(host) })
}

func (x *shrinker) calmNetwork() {
	s := x.best
	s.Latency, s.Jitter, s.Loss = 100*time.Microsecond, 0, 0
	if s.Latency != x.best.Latency || s.Jitter != x.best.Jitter || s.Loss != x.best.Loss {
		x.try(s)
	}
}

// simplify makes faults shorter, and their times easier to read.
func (x *shrinker) simplify() {
	for i := range x.best.Faults {
		for x.best.Faults[i].For >= 2*shortest && x.change(i, func(f *Fault) { f.For = (f.For / 2).Truncate(time.Millisecond) }) {
		}
		if f := x.best.Faults[i]; f.At != f.At.Truncate(10*time.Millisecond) {
			x.change(i, func(f *Fault) { f.At = f.At.Truncate(10 * time.Millisecond) })
		}
	}
}

func (x *shrinker) change(i int, to func(*Fault)) bool {
	s := x.best
	s.Faults = slices.Clone(s.Faults)
	to(&s.Faults[i])
	return x.try(s)
}

// of says that the target is meant by what it is to that guest.
func (t Target) of(g int) bool { return t == Primary+Target(g) || t == Backup+Target(g) }

func (t Target) without(g int) Target {
	for _, role := range []Target{Primary, Backup} {
		if t >= role && t < role+maxVMs {
			return role + Target(without(int(t-role), g))
		}
	}
	return t
}

// without is i, counted without the g-th.
func without(i, g int) int {
	if i > g {
		return i - 1
	}
	return i
}
