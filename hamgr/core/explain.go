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
	case p.Phase == Protected:
		return "nothing: it is protected" + but(p.Degraded) + but(p.ProbeFailed) + but(groupsOf(s, v.Now).say(p))
	case p.Phase == Syncing:
		return fmt.Sprintf("%s is copying its memory to %s", p.Primary, p.Backup)
	case p.Phase == Recovering && p.Cold:
		return fmt.Sprintf("%s is starting it anew, without its memory", p.Primary)
	case p.Phase == Recovering:
		return fmt.Sprintf("%s is restoring it", p.Primary)
	case p.Phase == Lost && p.OnLoss == OnLossRestart && p.Starts < StartsAtMost:
		return "waiting for a host to start it anew on, without its memory"
	case p.Phase == Lost && p.OnLoss == OnLossRestart:
		return fmt.Sprintf("nothing: it was started anew %d times and did not come to be protected; start it and unprotect it, or protect it again", p.Starts)
	case p.Phase == Lost:
		return "nothing: its memory is lost; start it anew and unprotect it, or protect it again"
	}
	return noBackup(s, v, p)
}

func but(what string) string {
	if what == "" {
		return ""
	}
	return ", but " + what
}

// noBackup says of each node why it is not the backup of a guest that runs alone.
func noBackup(s State, v View, p Protection) string {
	pl := newPlacement(s, v, groupsOf(s, v.Now))
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

// about finds what is to be done for a domain; what is only to be said is left out.
func about(list []Command, domain string) (Command, bool) {
	i := slices.IndexFunc(list, func(c Command) bool { return c.Domain == domain && c.Kind != Together && c.Kind != Apart })
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
