package core

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// without is v as it will be seen once node has been dead for long enough.
func (v View) without(node string) View {
	out := v
	out.Dead = func(n string) (bool, string) {
		if n == node {
			return true, node + " is dead"
		}
		return v.Dead(n)
	}
	out.Silence = func(n string) time.Duration {
		if n == node {
			return LostAfter
		}
		return v.Silence(n)
	}
	out.Lapsed = func(n string) bool { return n == node || v.Lapsed != nil && v.Lapsed(n) }
	out.Alive = slices.DeleteFunc(slices.Clone(v.Alive), func(n string) bool { return n == node })
	return out
}

// ifDead plays the leader's decisions after a death until there is none, which are few.
func ifDead(s State, v View, domain, node string) string {
	before := s.Protections[domain]
	v = v.without(node)
	anew := false
	for range 4 {
		c, ok := about(Decide(s, v), domain)
		if !ok {
			break
		}
		if Apply(&s, s.Index+1, c) != nil {
			break
		}
		anew = anew || c.Kind == Restart
		if p := s.Protections[domain]; p.Phase == Recovering {
			_ = Apply(&s, s.Index+1, Command{Kind: Restored, Domain: domain, Generation: p.Generation})
		}
	}
	if after := s.Protections[domain]; anew && before.Phase != Lost {
		return fmt.Sprintf("its memory is lost; started anew on %s%s", after.Primary, again(after))
	}
	return outcome(before, s.Protections[domain], node) + beside(s, s.Protections[domain], node)
}

// beside says with whom of its group the guest is on one host once node is dead.
func beside(s State, p Protection, node string) string {
	for _, name := range slices.Sorted(maps.Keys(s.Protections)) {
		q := s.Protections[name]
		if name == p.Domain || p.AntiAffinity == "" || q.AntiAffinity != p.AntiAffinity || p.Phase == Lost {
			continue
		}
		if q.Primary == node && q.Phase == Protected {
			q.Primary = q.Backup
		}
		if q.Primary == p.Primary && p.Primary != node {
			return fmt.Sprintf("; %s of its group is there, too", name)
		}
	}
	return ""
}

func again(after Protection) string {
	if after.Backup == "" {
		return "; no other host can take its replica then"
	}
	return fmt.Sprintf("; then protected again on %s", after.Backup)
}

func outcome(before, after Protection, node string) string {
	again := again(after)
	switch {
	case before.Phase == Lost:
		return "it is lost already"
	case after.Phase == Lost:
		return fmt.Sprintf("lost: %s has its only copy", before.Primary)
	case after.Primary != before.Primary && before.Mode == Checkpoint:
		return fmt.Sprintf("goes on at %s from its last checkpoint; what was seen of it since may be rolled back%s", after.Primary, again)
	case after.Primary != before.Primary:
		return fmt.Sprintf("goes on at %s, nothing is lost%s", after.Primary, again)
	case node == before.Primary:
		return "nothing can be decided: its other host is dead, too"
	case node == before.Backup:
		return fmt.Sprintf("runs on at %s without a replica%s", after.Primary, again)
	}
	return "nothing changes"
}
