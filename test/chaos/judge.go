package main

import (
	"slices"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
	"github.com/hamgr/hamgr/hamgr/trace"
	"github.com/hamgr/hamgr/test/commit"
)

// story is what the cluster decided about the guest, in the order of its log, each at the
// time that the first node knew.
func story(events []trace.Event) (out []standing) {
	newest := uint64(0)
	orders := slices.DeleteFunc(slices.Clone(events), func(e trace.Event) bool { return e.Kind != trace.Order })
	slices.SortStableFunc(orders, func(a, b trace.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range orders {
		if e.Index > newest {
			newest = e.Index
			out = append(out, standingOf(e))
		}
	}
	return out
}

func standingOf(e trace.Event) standing {
	return standing{e.Time, e.Primary, e.Backup, core.Phase(e.Phase), e.Generation}
}

// settling is how long after a fault a decision may come that was under way before.
const settling = 300 * time.Millisecond

// lossAllowed says whether faults may have cost the guest its memory: one ended the guest
// where there was no replica, or another ended the replica. A guest is protected when a
// run begins, so one fault alone never may.
func lossAllowed(faults []done, story []standing) bool {
	faults = slices.DeleteFunc(slices.Clone(faults), func(d done) bool { return d.Missed != "" })
	if len(faults) < 2 {
		return false
	}
	return slices.ContainsFunc(faults, func(f done) bool {
		for i, s := range story {
			over := time.Time{} // not yet
			if i+1 < len(story) {
				over = story[i+1].Time
			}
			if f.during(s.Time, over) && f.fatal(s, over, faults) {
				return true
			}
		}
		return false
	})
}

// fatal says that a fault which falls into a standing, over at an instant, may have ended
// what was left of the guest.
func (d done) fatal(s standing, over time.Time, faults []done) bool {
	switch {
	case s.Phase == core.Lost || s.Primary != d.Host:
		return false
	case s.Phase == core.Recovering:
		return d.fault.ends(endsGuest) || d.fault.ends(endsReplica)
	case s.Phase != core.Protected:
		return d.fault.ends(endsGuest)
	}
	return d.fault.ends(endsGuest) && slices.ContainsFunc(faults, func(g done) bool {
		return g.Host == s.Backup && g.fault.ends(endsReplica) && (over.IsZero() || g.From.Before(over.Add(settling)))
	})
}

// during says that a fault took its effect, or may have, between two instants.
func (d done) during(from, over time.Time) bool {
	until := d.Until
	if d.fault.Power {
		until = d.From
	}
	return (over.IsZero() || over.After(d.From)) && !from.After(until.Add(settling))
}

// incidental are what the frames may show because a network was cut, or a process stood
// still. They are counted, and do not break a promise; the others do.
var incidental = []commit.Kind{commit.Missing, commit.Late, commit.Gap}

// excuses are the kinds of violations that faults explain. A network that delays some
// frames more than others changes their order.
func excuses(faults []done) []commit.Kind {
	if slices.ContainsFunc(faults, func(d done) bool { return d.fault.vars["trouble"] == "delayed" }) {
		return append(slices.Clone(incidental), commit.Reordered)
	}
	return incidental
}

// promises are the violations in a report on frames that nothing excuses.
func promises(r commit.Report, excused []commit.Kind) (broken []commit.Violation, n int) {
	for k, count := range r.Count {
		if !slices.Contains(excused, k) {
			n += count
		}
	}
	for _, v := range r.Violations {
		if !slices.Contains(excused, v.Kind) {
			broken = append(broken, v)
		}
	}
	return broken, n
}
