package sim

import (
	"time"

	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
)

// session is one stretch of checkpoints to one backup: it mirrors hamgr/agent session.go.
type session struct {
	j      *job
	c      *copy
	gen    uint64
	order  core.Protection
	stream *stream
	stage  stage

	epoch  uint64
	now    *core.Protection // the order that the epoch was begun with
	ended  uint64           // epoch of the buffer; 0: nothing is held
	ckpt   frame            // captured, not committed
	clock  time.Duration    // when the last epoch began
	asked  core.Mode
	cause  string
	handed *try
	broken bool // the stream, while the guest was being handed over
	synced outcome
	asking bool          // whether the guest may be called protected
	ticks  int           // that QEMU was waited for, in one wait
	moves  time.Duration // until when a move waits for output that waits for a lease; 0: it does not
}

type stage uint8

const (
	dialling stage = iota
	greeting
	arming
	running   // the guest, between two checkpoints
	capturing // the guest stands still
	shipping
	handing // the guest stands still, and the cluster is asked to give it to the backup
	disarming
)

func newSession(j *job) {
	s := &session{j: j, c: j.copy(), gen: j.order.Generation, order: *j.order, synced: unknown}
	j.s = s
	switch {
	case s.c == nil:
		s.end("the guest does not run")
		return
	case j.a.p.w.leased(s.order) && !s.c.tap.cut:
		j.setUpGate(s.c)
		j.buffer = s.order.Mode == core.Buffer
	case s.c.tap.cut: // bufferqdisc.ErrCut
		s.end("the output is cut by an earlier agent")
		return
	default:
		j.buffer = true
	}
	s.dial()
}

func (s *session) host() *process { return s.j.a.p }

func (s *session) dial() {
	p := s.host()
	to := p.w.hosts[hostOf(s.order.Backup)]
	s.stream = p.w.dial(p, to)
	s.stream.session = s
	s.stage = greeting
	s.stream.write(frame{to: 1, kind: hello, gen: s.gen, index: p.raft.state.index})
	if p.w.reaches(p.id, to.id) && p.w.reaches(to.id, p.id) {
		s.j.later(helloTimeout)
	} else {
		s.j.later(dialTimeout)
	}
}

func (s *session) timer() {
	switch s.stage {
	case greeting:
		s.end("the backup does not answer")
	case arming, running, capturing:
		if !s.hangs() {
			s.qemu()
		}
	case shipping:
		s.end("the backup did not commit in time")
	case handing:
		s.notHandedOver()
	case disarming:
		s.j.s = nil
		s.j.sessionEnded(s.gen, s.cause)
	}
}

// qemu has done what it was to do.
func (s *session) qemu() {
	switch s.stage {
	case arming:
		s.stage, s.clock = running, s.host().w.now
		s.j.later(s.order.Epoch)
	case running:
		s.boundary()
	case capturing:
		s.goOn()
	}
}

// hangs is patience in ending.go: it counts ticks, and ends a session whose QEMU has not
// gone on for so many. The first copy is not watched.
func (s *session) hangs() bool {
	if s.c.hung == 0 {
		s.ticks = 0
		return false
	}
	if s.ticks++; s.ticks < hungTicks || s.stage == arming {
		s.j.later(hungTick)
		return true
	}
	o := s.j.order
	if o != nil && o.Phase == core.Protected && s.host().w.mutant != HungSpared { // endHung
		s.c.die()
	}
	s.end("QEMU hangs")
	return true
}

func (s *session) read(f *frame) {
	switch {
	case s.stage == disarming:
	case s.stage == handing:
		s.broken = s.broken || f.kind == unheard || f.kind == shut
	case f.kind == unheard || f.kind == shut:
		s.end("the backup hung up")
	case f.kind == refuse:
		s.end("refused: " + f.why)
	case f.kind == accept && s.stage == greeting:
		s.arm()
	case f.kind == commit && s.stage == shipping:
		s.committed(f.epoch)
	}
}

// arm copies all of the memory while the guest runs on.
func (s *session) arm() {
	s.stage = arming
	s.c.dirty = [pages]bool{}
	s.stream.write(frame{to: 1, kind: precopy, mem: s.c.pages})
	s.j.later(s.host().w.between(20*time.Millisecond, 200*time.Millisecond))
}

// boundary stops the guest: what it has sent belongs to this epoch.
func (s *session) boundary() {
	p, c := s.host(), s.c
	s.now = s.j.order
	s.clock = p.w.now
	s.epoch++
	c.pause()
	s.output()
	s.ckpt = frame{to: 1, epoch: s.epoch, branch: c.branch, count: c.count, mem: c.pages, has: c.dirty}
	c.dirty = [pages]bool{}
	s.stage = capturing
	d := p.w.between(time.Millisecond, 5*time.Millisecond)
	if p.w.chance(20) {
		d *= 20
	}
	s.j.later(d)
}

// output is endEpoch of output.go.
func (s *session) output() {
	if s.now.Moving && len(s.c.tap.late) > 0 {
		if s.moves == 0 {
			s.moves = s.host().w.now + moveWait
		}
		o := *s.now
		o.Moving = s.host().w.now > s.moves
		s.now = &o
	} else {
		s.moves = 0
	}
	hold, letGo := rules.Boundary(*s.now)
	if hold && !s.j.held {
		s.j.buffer, s.j.held = true, true
		s.c.hold()
	}
	if letGo {
		s.j.setUpGate(s.c)
		if s.j.held {
			s.c.open()
			s.j.held = false
		}
	}
	if s.ended = 0; s.j.held {
		s.ended = s.c.endEpoch()
	}
}

// goOn lets the guest run and sends the checkpoint, in two pieces.
func (s *session) goOn() {
	if !s.now.Moving || s.host().w.mutant == MoveRunning {
		s.c.resume()
	}
	s.stage = shipping
	first := s.ckpt
	first.kind, first.has[2], first.has[3] = part, false, false
	s.stream.write(first)
	second := s.ckpt
	second.kind, second.has[0], second.has[1] = whole, false, false
	s.stream.write(second)
	if s.host().w.mutant == ReleaseOnSend {
		s.released()
	}
	s.j.later(commitTimeout)
}

func (s *session) released() {
	if s.ended > 0 {
		s.c.release(s.ended)
	}
}

func (s *session) committed(epoch uint64) {
	if epoch != s.epoch {
		s.end("the backup committed another epoch")
		return
	}
	s.released()
	if s.epoch == 1 {
		s.report()
	}
	if s.now.Moving {
		s.handOver()
		return
	}
	s.changeMode()
	s.next()
}

// next waits for the end of the next epoch.
func (s *session) next() {
	p := s.host()
	if s.asking && s.synced == refused {
		s.end("the cluster does not want this session")
		return
	}
	s.stage = running
	s.j.later(max(time.Millisecond, s.order.Epoch-time.Duration(float64(p.w.now-s.clock)*p.rate)))
}

func (s *session) report() {
	s.asking = true
	s.host().propose(core.Command{Kind: core.Synced, Domain: s.order.Domain, Generation: s.gen}, func(o outcome) { s.synced = o })
}

func (s *session) changeMode() {
	tell, closeGate := rules.ModeStep(*s.now, s.j.held, s.asked)
	switch {
	case closeGate:
		s.c.openGate()
		s.j.gate = false
	case tell:
		if s.now.Wanted == core.Checkpoint {
			s.j.setUpGate(s.c)
		}
		s.j.say(core.Command{Kind: core.SetMode, Domain: s.order.Domain, Generation: s.gen, Mode: s.now.Wanted})
	}
	s.asked = s.now.Wanted
}

// end takes QEMU out of its session, whatever ended it; the guest runs on, its output as
// it was.
func (s *session) end(cause string) {
	if s.stage == disarming {
		return
	}
	s.host().note("%s: checkpoints stop: %s", s.order.Domain, cause)
	if s.handed != nil {
		s.handed.giveUp()
	}
	s.stage, s.cause = disarming, cause
	if s.stream != nil {
		s.stream.close(0)
	}
	if s.c != nil {
		s.c.resume()
		if s.host().w.mutant == ReleaseOnError && s.j.held {
			s.c.release(s.c.tap.epoch + 1)
		}
	}
	if s.c != nil && s.c.running && s.c.hung > 0 && s.host().w.mutant != HungSpared {
		s.j.later(disarmTimeout)
		return
	}
	s.j.later(s.host().w.between(time.Millisecond, 20*time.Millisecond))
}

// handOver asks the cluster to make the backup the owner (handover.go): the guest stands
// still, its last checkpoint is committed, its output has gone.
func (s *session) handOver() {
	s.stage = handing
	c := core.Command{Kind: core.FailOver, Domain: s.order.Domain, Generation: s.gen, Planned: true, Silenced: true,
		Cause: "handed over by " + s.order.Primary}
	s.handed = s.host().propose(c, func(o outcome) {
		switch {
		case s.stage != handing:
		case o == taken:
			s.handedOver()
		default:
			s.notHandedOver()
		}
	})
	s.j.later(tryTimeout)
}

func (s *session) handedOver() {
	s.j.abandon()
	s.j.moved = s.j.order != nil && s.j.order.Generation == s.gen
	s.stream.close(0)
	s.stage = disarming
	if s.c.running {
		s.c.die()
	}
	s.j.later(time.Millisecond)
}

// notHandedOver lets the guest run on, its output held; which is right whatever the
// cluster decides after all.
func (s *session) notHandedOver() {
	s.handed.giveUp()
	o := s.j.order
	if o == nil || o.Generation != s.gen {
		s.stage = shipping
		s.end("its generation is over")
		return
	}
	if s.broken {
		s.stage = shipping
		s.end("the backup hung up")
		return
	}
	s.j.say(core.Command{Kind: core.Stay, Domain: s.order.Domain, Generation: s.gen, Cause: "no answer"})
	s.c.resume()
	s.next()
}
