package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	maxHosts = 5
	maxVMs   = 3
)

// World plays schedules, one after the other; it keeps its memory between them. It is
// not safe for concurrent use.
type World struct {
	schedule Schedule
	mutant   Mutant
	say      func(at time.Duration, who, what string) // nil: nobody listens

	pcg *rand.PCG
	rng *rand.Rand
	q   queue
	now time.Duration

	net       network
	hosts     []*host
	vms       []*vm
	ledger    ledger   // all that was ever committed
	active    []active // the schedule's faults
	stable    bool     // the faults are over
	healed    time.Duration
	look      time.Duration           // when to look again whether all is well
	undrained [maxHosts]time.Duration // when the operator may ask for that again
	well      int                     // looks that found it so, one after the other
	harm      *Violation
	stats     Stats

	rpcs  arena[rpc]
	beats arena[beat]
}

// Violation is what a checker found.
type Violation struct {
	Check string        `json:"check"` // I1 to I6, harm, raft, or Unserved
	At    time.Duration `json:"at_ns"`
	What  string        `json:"what"`
}

func (v *Violation) Error() string { return fmt.Sprintf("%v: %s: %s", v.At, v.Check, v.What) }

// NewWorld makes a World; say, if not nil, hears everything that an operator would want
// to know.
func NewWorld(say func(at time.Duration, who, what string)) *World {
	pcg := rand.NewPCG(0, 0)
	return &World{say: say, pcg: pcg, rng: rand.New(pcg)}
}

// Run plays a schedule to its end or to the first violation. The same schedule and mutant
// give the same run.
func (w *World) Run(s Schedule, m Mutant) (*Violation, Stats) {
	w.begin(s, m)
	for len(w.q.heap) > 0 && w.harm == nil {
		e := w.q.pop()
		w.now = e.at
		w.stats.Events++
		w.happen(&e)
		w.checkEmitters()
		if w.stable && w.settled() {
			break
		}
	}
	w.stats.Schedules, w.stats.Simulated = 1, w.now
	return w.harm, w.stats
}

// Unserved is the check that all becomes well once the faults are over.
const Unserved = "unserved"

// harmed notes the first violation.
func (w *World) harmed(check, format string, args ...any) {
	if w.harm != nil {
		return
	}
	w.harm = &Violation{Check: check, At: w.now, What: fmt.Sprintf(format, args...)}
	if check == Unserved {
		w.stats.Unserved++
	} else {
		w.stats.Violations++
	}
	if w.say != nil {
		w.say(w.now, "FOUND", check+": "+w.harm.What)
	}
}

func (w *World) tell(who, format string, args ...any) {
	w.say(w.now, who, fmt.Sprintf(format, args...))
}

// after has the event happen d later.
func (w *World) after(d time.Duration, e event) {
	e.at = w.now + d
	w.q.push(e)
}

func (w *World) happen(e *event) {
	h := w.hosts[e.to]
	switch e.kind {
	case faultOn:
		w.begins(int(e.arg))
	case faultOff:
		w.ends(int(e.arg))
	case bootHost:
		h.powerOn()
	case bootHamgr:
		h.startHamgr()
	case guestActs:
		h.guestActs(e.arg)
	case streamGot:
		h.streamGot(e)
	default:
		h.toProcess(e)
	}
}

// begin sets up the hosts and the cluster's first agreed state, as after a first start of
// all of them, with a guest on some.
func (w *World) begin(s Schedule, m Mutant) {
	*w = World{say: w.say, pcg: w.pcg, rng: w.rng, q: w.q, rpcs: w.rpcs, beats: w.beats, schedule: s, mutant: m}
	w.q.reset()
	w.rpcs.reset()
	w.beats.reset()
	w.pcg.Seed(s.Seed, s.Salt)
	w.net.latency, w.net.jitter, w.net.loss = s.Latency, s.Jitter, s.Loss
	w.stats.Faults = map[FaultKind]int64{}
	w.active = make([]active, len(s.Faults))
	for i := range s.Hosts {
		w.hosts = append(w.hosts, newHost(w, i))
	}
	log := w.firstLog()
	for _, h := range w.hosts {
		h.disk = disk{term: 1, vote: -1, log: log}
		w.q.push(event{at: w.between(0, 20*time.Millisecond), kind: bootHamgr, to: uint8(h.id), arg: 0})
	}
	for i, f := range s.Faults {
		w.q.push(event{at: f.At, kind: faultOn, arg: uint32(i)})
	}
	w.q.push(event{at: s.Calm, kind: faultOff, arg: allFaults})
}

var names = [maxHosts]string{"h1", "h2", "h3", "h4", "h5"}
var domains = [maxVMs]string{"g1", "g2", "g3"}

func hostOf(name string) int {
	if len(name) != 2 {
		return -1
	}
	return int(name[1] - '1')
}

func vmOf(domain string) int { return hostOf(domain) }
