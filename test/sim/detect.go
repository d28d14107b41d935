package sim

import (
	"time"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/detector/lease"
	"github.com/hamgr/hamgr/hamgr/agent/rules"
	"github.com/hamgr/hamgr/hamgr/core"
)

// beat is a heartbeat (detector/packet.go).
type beat struct {
	judge.Heartbeat
	echo lease.Echo
}

func (p *process) startDetector() {
	p.table = judge.New(p.name, suspectAfter, grace)
	var peers []string
	for _, h := range p.w.hosts {
		if h != p.host {
			peers = append(peers, h.name)
		}
	}
	p.table.SetPeers(peers, p.clock())
	p.holder = lease.NewHolder(p.name, p.incarnation)
	p.table.Detour(detour)
	if p.w.schedule.Seasoned {
		p.table.Adapt(patienceMin)
		if p.inc == 1 {
			p.season(peers)
		}
	}
	p.timer(p.w.between(0, p.w.schedule.beatEvery()), beatTimer, 0, nil)
}

// seasoning is after how many heartbeats a table has adapted (package judge).
const seasoning = 256

// season is a past in which heartbeats came regularly.
func (p *process) season(peers []string) {
	p.sequence = seasoning
	every := p.w.schedule.beatEvery()
	for n := range uint64(seasoning) {
		at := p.clock().Add(-every * time.Duration(seasoning-n))
		for _, peer := range peers {
			p.table.Heard(judge.Heartbeat{Sender: peer, Incarnation: firstIncarnation, Sequence: n + 1}, at)
		}
	}
}

// beat is detector.go's once.
func (p *process) beat() {
	p.timer(p.w.schedule.beatEvery(), beatTimer, 0, nil)
	now := p.clock()
	if p.table.Tick(now) {
		p.lead.poke()
	}
	p.hurry.look(p, now)
	if p.w.mutant == FailoverWithoutRaft {
		p.usurp()
	}
	p.sequence++
	hb := judge.Heartbeat{Sender: p.name, Incarnation: p.incarnation, Sequence: p.sequence, Suspects: p.table.Gossip()}
	p.holder.Sending(p.sequence, now)
	for _, h := range p.w.hosts {
		if h == p.host {
			continue
		}
		if h.up && h.proc == nil {
			p.refusal(h, now)
		}
		b := p.w.beats.get()
		*b = beat{Heartbeat: hb, echo: p.lead.complete(h.id, p.table.Echo(h.name))}
		p.w.send(p.id, h.id, beatGot, b)
		if p.w.schedule.Second && p.dark == 0 && h.dark == 0 && h.up {
			p.w.after(p.w.delay(), event{kind: secondGot, to: uint8(h.id), from: uint8(p.id), msg: b})
		}
	}
}

// refusal is the answer of a kernel on which hamgr does not run.
func (p *process) refusal(h *host, now time.Time) {
	w := p.w
	if !w.reaches(p.id, h.id) || !w.reaches(h.id, p.id) || w.now-p.refused[h.id] < refusalEvery && p.refused[h.id] > 0 {
		return
	}
	p.refused[h.id] = w.now
	p.table.Refused(h.name, now)
}

func (p *process) beatGot(b *beat) {
	if p.table.Heard(b.Heartbeat, p.clock()) {
		p.lead.poke()
	}
	p.holder.Heard(b.Sender, b.echo)
}

func (p *process) secondGot(b *beat) {
	if p.table.HeardSecond(b.Heartbeat, p.clock()) {
		p.lead.poke()
	}
}

// leaseEnd is detector.go's Lease, as serve.go asks for it.
func (p *process) leaseEnd() time.Time { return p.leaseBy(p.agent.seen) }

// leaseOf is leased.go's, for a guest without a job.
func (p *process) leaseOf(vm int) time.Time {
	s := p.raft.state
	if !p.caughtUp || !rules.MayExtend(p.name, s.p[vm]) {
		return time.Time{}
	}
	return p.leaseBy(s)
}

func (p *process) leaseBy(known *state) time.Time {
	own := lease.Voter{}
	if p.raft.state.managers.has(p.id) {
		v := p.lead.voter()
		own = lease.Voter{Term: v.Term, Leads: v.Grant}
	}
	var applied uint64
	if p.caughtUp {
		applied = known.s.Index
	}
	voters := known.voters
	if p.w.mutant == FormerManagers {
		voters = p.w.ledger.chain[1].voters
	}
	until := p.holder.Until(voters, own, applied, lease.Length(suspectAfter), p.clock())
	if p.w.mutant == GrantWithoutMajority {
		for i := range voters {
			alone := p.holder.Until(voters[i:i+1], own, applied, lease.Length(suspectAfter), p.clock())
			if alone.After(until) {
				until = alone
			}
		}
	}
	return until
}

// usurp is the mutant of a backup that trusts its own eyes.
func (p *process) usurp() {
	for _, b := range p.agent.backups {
		if b != nil && b.stage == receiving && b.replica.epoch > 0 && p.table.Silence(b.stream.ends[0].host.name, p.clock()) > 0 {
			b.takeOver(&core.Protection{Generation: b.gen + 1})
		}
	}
}
