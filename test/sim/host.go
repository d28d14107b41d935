package sim

import (
	"strconv"
	"time"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/detector/lease"
)

// host is a machine: its clocks, its disk, the kernel's and QEMU's part of its guests, and
// at most one process of hamgr.
type host struct {
	w    *World
	id   int
	name string
	up   bool

	rate float64       // its seconds in one of the world's
	wall time.Duration // by how much its wall clock is ahead of its monotonic one

	disk    disk
	stalled time.Duration // until when the disk does not answer
	copies  [maxVMs]*copy
	late    [maxVMs]*copy // that have ended, and what they said last waits for a lease
	dark    int           // faults that cut its guests off the network
	full    int           // faults that leave no memory for a standby

	proc   *process
	inc    uint32  // processes so far
	still  int     // faults that make the process stand still
	queued []event // what waits for it meanwhile
}

// process is one run of hamgr: all that is gone when it dies.
type process struct {
	*host
	inc         uint32
	boot        string
	incarnation uint64
	since       time.Duration // when it began, or last went on after standing still
	caughtUp    bool          // its own registration has come back to it
	registering bool          // it is telling the cluster that it is here
	asked       bool          // it has done so

	table    *judge.Table
	holder   *lease.Holder
	sequence uint64
	refused  [maxHosts]time.Duration // when each peer's kernel last answered for it

	raft  raft
	lead  lead
	hurry hurry
	agent agent
}

func newHost(w *World, id int) *host {
	drift := float64(w.rng.IntN(2*maxDrift+1)-maxDrift) / 1000
	return &host{w: w, id: id, name: names[id], up: true, rate: 1 + drift}
}

// maxDrift, in thousandths: two clocks differ by twice that at most, less than what a
// lease allows for (package lease: a quarter).
const maxDrift = 50

// at is what the monotonic clock says.
func (h *host) at(t time.Duration) time.Time {
	return epoch.Add(time.Duration(float64(t) * h.rate))
}

var epoch = time.Unix(1_000_000, 0)

var firstIncarnation = uint64(epoch.UnixNano())

func (h *host) clock() time.Time { return h.at(h.w.now) }

// wallClock is for people, and for comparing what is not to be compared.
func (h *host) wallClock() time.Time { return h.clock().Add(h.wall) }

// moment is when the monotonic clock will say t.
func (h *host) moment(t time.Time) time.Duration {
	return time.Duration(float64(t.Sub(epoch)) / h.rate)
}

// local is how long the world waits when the host measures d.
func (h *host) local(d time.Duration) time.Duration { return time.Duration(float64(d) / h.rate) }

// timer wakes the process after d by its own clock.
func (p *process) timer(d time.Duration, k kind, arg uint32, msg any) {
	p.w.after(p.local(d), event{kind: k, to: uint8(p.id), inc: p.inc, arg: arg, msg: msg})
}

// soon is for what another goroutine of the process does next.
func (p *process) soon(k kind, arg uint32, msg any) {
	d := 50*time.Microsecond + time.Duration(p.w.rng.Uint64N(uint64(time.Millisecond)))
	p.w.after(d, event{kind: k, to: uint8(p.id), inc: p.inc, arg: arg, msg: msg})
}

func (h *host) startHamgr() {
	if !h.up || h.proc != nil {
		return
	}
	h.inc++
	p := &process{host: h, inc: h.inc, boot: strconv.Itoa(int(h.inc)), since: h.w.now}
	p.incarnation = firstIncarnation
	if h.inc > 1 {
		p.incarnation = uint64(h.wallClock().UnixNano())
	}
	h.proc = p
	if h.w.say != nil && h.inc > 1 {
		h.w.tell(h.name, "hamgr starts")
	}
	p.startDetector()
	p.startRaft()
	p.agent.start(p)
}

// killHamgr ends the process at once. What the kernel keeps for it does the rest.
func (h *host) killHamgr() { h.hamgrDies(true) }

// stopHamgr ends the process in order: guests run on, out of their sessions, and what stood
// before their network is left closed.
func (h *host) stopHamgr() {
	for _, j := range h.proc.agent.jobs {
		if j != nil {
			if c := j.copy(); j.s != nil && c != nil {
				c.resume()
			}
			j.abandon()
		}
	}
	h.hamgrDies(true)
}

func (h *host) hamgrDies(power bool) {
	p := h.proc
	if p == nil {
		return
	}
	h.proc, h.queued = nil, h.queued[:0]
	h.standbysDie(p)
	h.streamsBreak(p, power)
	for i, c := range h.copies {
		if h.late[i] = nil; c != nil {
			c.processDied()
		}
	}
}

func (h *host) powerOff() {
	h.hamgrDies(false)
	h.up = false
	for _, c := range h.copies {
		if c != nil {
			c.die()
		}
	}
	h.w.checkDoom()
}

func (h *host) powerOn() {
	if h.up {
		return
	}
	h.up = true
	h.w.after(h.w.between(50*time.Millisecond, 300*time.Millisecond), event{kind: bootHamgr, to: uint8(h.id)})
}

// stop makes the process stand still (SIGSTOP, or a host without time for it); the
// kernel and the guests go on.
func (h *host) stop() { h.still++ }

func (h *host) cont() {
	if h.still--; h.still > 0 || h.proc == nil {
		return
	}
	h.proc.since = h.w.now
	// What a stream has brought is read in order, before what it brings now; datagrams in
	// their order, timers in any.
	at := time.Duration(0)
	for _, e := range h.queued {
		at += 10 * time.Microsecond
		e.at = h.w.now + at
		switch {
		case e.kind == streamRead:
			e.at = h.w.now
		case e.inc != 0:
			e.at = h.w.now + time.Duration(h.w.rng.Uint64N(uint64(2*time.Millisecond)))
		}
		h.w.q.push(e)
	}
	h.queued = h.queued[:0]
}

// toProcess delivers to the process, now or when it goes on.
func (h *host) toProcess(e *event) {
	p := h.proc
	if p == nil || e.inc != 0 && e.inc != p.inc {
		return
	}
	if h.still > 0 {
		h.queued = append(h.queued, *e)
		return
	}
	switch e.kind {
	case beatTimer:
		p.beat()
	case beatGot:
		p.beatGot(e.msg.(*beat))
	case secondGot:
		p.secondGot(e.msg.(*beat))
	case raftTimer, rpcGot:
		p.raft.handle(e)
	case submitTimer:
		d := e.msg.(*deferred)
		p.raft.submit(d.order, d.done)
	case roundTimer:
		p.lead.round(e.arg)
	case requestGot:
		p.requestGot(e.msg.(*request))
	case answerGot:
		p.answerGot(e.msg.(*request))
	case tryTimer:
		p.tryTimer(e.msg.(*try), e.arg)
	default:
		p.agent.handle(e)
	}
}
