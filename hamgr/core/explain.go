package core

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Explanation says why a protection is as it is, and what would become of the guest if a
// host died now. The answers about deaths are Decide's own, on a copy of the state.
type Explanation struct {
	Domain  string    `json:"domain"`
	Phase   Phase     `json:"phase"`
	Since   time.Time `json:"since"`
	Because string    `json:"because,omitempty"` // the cause of the decision that led here
	Next    string    `json:"next"`              // what the leader would do now, or why it waits
	IfDead  []Death   `json:"if_dead"`           // one for each node
	Events  []Event   `json:"events"`            // the decisions about this domain, oldest first
}

// Death is what would happen to the guest if a node lost its power now.
type Death struct {
	Node    string `json:"node"`
	Outcome string `json:"outcome"`
}

// Explain explains one protection, as the leader sees it. Errors: ErrUnknownDomain.
func Explain(s State, v View, domain string) (Explanation, error) {
	p, ok := s.Protections[domain]
	if !ok {
		return Explanation{}, fmt.Errorf("%w: %q", ErrUnknownDomain, domain)
	}
	e := Explanation{Domain: domain, Phase: p.Phase, Since: p.Since, Because: p.Reason, Next: next(s, v, p), Events: []Event{}}
	for _, x := range s.Events {
		if x.Domain == domain {
			e.Events = append(e.Events, x)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(s.Nodes)) {
		e.IfDead = append(e.IfDead, Death{n, ifDead(s, v, domain, n)})
	}
	return e, nil
}

// next is what Decide would do, in words.
func next(s State, v View, p Protection) string {
	if c, ok := about(Decide(s, v), p.Domain); ok {
		return doing(c, p)
	}
	_, backupDead := deadCause(v, p.Backup)
	switch {
	case p.Phase == Protected && p.Moving:
		return fmt.Sprintf("%s is handing it over to %s", p.Primary, p.Backup)
	case p.Phase == Protected && p.Wanted != "":
		return fmt.Sprintf("%s is changing the mode to %s", p.Primary, p.Wanted)
	case p.Phase == Protected && s.replicaGone(p):
		return fmt.Sprintf("waiting for %s: hamgr on %s was restarted, and the replica went with it", p.Primary, p.Backup)
	case p.Phase == Protected && backupDead:
		return "both of its hosts are dead; whichever comes back first goes on"
	case p.Phase == Protected && p.Degraded != "":
		return "nothing: it is protected, but " + p.Degraded
	case p.Phase == Protected:
		return "nothing: it is protected"
	case p.Phase == Syncing:
		return fmt.Sprintf("%s is copying its memory to %s", p.Primary, p.Backup)
	case p.Phase == Recovering && p.Cold:
		return fmt.Sprintf("%s is starting it anew, without its memory", p.Primary)
	case p.Phase == Recovering:
		return fmt.Sprintf("%s is restoring it", p.Primary)
	case p.Phase == Lost && p.OnLoss == OnLossRestart && p.Starts < StartsAtMost:
		return "waiting for a host to start it anew on, without its memory"
	case p.Phase == Lost && p.OnLoss == OnLossRestart:
		return fmt.Sprintf("nothing: it was started anew %d times and did not come to run; start it and unprotect it, or protect it again", p.Starts)
	case p.Phase == Lost:
		return "nothing: its memory is lost; start it anew and unprotect it, or protect it again"
	}
	return noBackup(s, v, p)
}

// noBackup says of each node why it is not the backup of a guest that runs alone.
func noBackup(s State, v View, p Protection) string {
	pl := newPlacement(s, v)
	text := ""
	for _, n := range slices.Sorted(maps.Keys(s.Nodes)) {
		if n != p.Primary {
			text += fmt.Sprintf("; %s %s", n, pl.whyNot(p, n))
		}
	}
	if text == "" {
		text = "; there is no other node"
	}
	return "waiting for a backup" + text
}

func (pl *placement) whyNot(p Protection, node string) string {
	cause, dead := deadCause(pl.view, node)
	switch {
	case dead:
		return "is dead: " + cause
	case p.Pinned != "" && p.Pinned != node:
		return "is not allowed, only " + p.Pinned
	case !slices.Contains(pl.view.Alive, node):
		return "is not heard of"
	case !slices.Contains(pl.nodes, node):
		return "is drained"
	case p.Refused[node] != "":
		return "refused: " + p.Refused[node]
	}
	if free, known := pl.view.MemoryFree[node]; known && free < pl.promised[node]+p.Memory {
		return fmt.Sprintf("has %d MiB left for replicas, and %d MiB are needed", (free-min(free, pl.promised[node]))>>20, p.Memory>>20)
	}
	return "will be asked next"
}

func doing(c Command, p Protection) string {
	switch c.Kind {
	case FailOver:
		return fmt.Sprintf("to fail over from %s to %s: %s", p.Primary, p.Backup, c.Cause)
	case GoSolo:
		return fmt.Sprintf("to go on without %s: %s", p.Backup, c.Cause)
	case MarkLost:
		return "to give it up: " + c.Cause
	case Restart:
		return "to start it anew on " + c.Backup + ", without its memory"
	case Move:
		return fmt.Sprintf("to move it from %s to %s: %s", p.Primary, p.Backup, c.Cause)
	case Assign:
		return "to copy its memory to " + c.Backup
	}
	return string(c.Kind)
}

func about(list []Command, domain string) (Command, bool) {
	i := slices.IndexFunc(list, func(c Command) bool { return c.Domain == domain })
	if i < 0 {
		return Command{}, false
	}
	return list[i], true
}

func deadCause(v View, node string) (cause string, dead bool) {
	if node == "" {
		return "", false
	}
	dead, cause = v.Dead(node)
	return cause, dead
}

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
	return outcome(before, s.Protections[domain], node)
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
