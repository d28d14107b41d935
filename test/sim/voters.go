package sim

import (
	"math/bits"

	"github.com/hamgr/hamgr/detector/judge"
	"github.com/hamgr/hamgr/hamgr/core"
)

// hostSet is a set of hosts, by number.
type hostSet uint32

func (s hostSet) has(host int) bool { return s>>host&1 == 1 }

func (s hostSet) count() int { return bits.OnesCount32(uint32(s)) }

func (s hostSet) names() (out []string) {
	for i, n := range names {
		if s.has(i) {
			out = append(out, n)
		}
	}
	return out
}

// managed are the hosts as core.State has its managers.
func (s hostSet) managed() map[string]string {
	out := map[string]string{}
	for _, n := range s.names() {
		out[n] = n
	}
	return out
}

// configure makes the newest managers in the log those who vote, decided on or not: Raft's
// rule.
func (r *raft) configure() {
	d := &r.p.disk
	for i := len(d.log) - 1; i >= 0; i-- {
		if m := d.log[i].order.managers; m != 0 {
			r.voters = m
			return
		}
	}
	r.voters = 0
}

// changeManagers is an operator's wish on the leader: it mirrors hamgr/api managers.go and
// hamgr/cluster managers.go.
func (l *lead) changeManagers(c core.Command, done func(outcome)) {
	r, s := &l.p.raft, l.p.raft.state
	host := hostOf(c.Node.Name)
	change := func(m hostSet) hostSet {
		if c.Kind == core.ManagerRemoved {
			return m &^ (1 << host)
		}
		return m | 1<<host
	}
	after := change(s.managers)
	switch {
	case r.role != leading:
		done(notLeader)
	case !l.p.caughtUp: // it knows of nobody
		done(refused)
	case l.changing || after == s.managers || !l.canDecide(after):
		done(refused)
	case host == l.p.id:
		r.handOver(l.heir(after))
		done(notLeader)
	case c.Kind == core.ManagerAdded && r.match[host] < s.index:
		done(refused)
	default:
		l.begin()
		l.changing = true
		term := l.term
		over := func(o outcome) {
			if term == l.term {
				l.changing = false
			}
			done(o)
		}
		r.submit(&order{}, func(o outcome) { // all changes before are decided, and applied here
			if o != taken {
				over(o)
				return
			}
			r.submit(&order{managers: change(r.voters)}, over)
		})
	}
}

func (l *lead) alive(host int) bool {
	return host == l.p.id || l.p.table.Status()[names[host]].State == judge.Alive
}

// canDecide says that more than half of such managers live.
func (l *lead) canDecide(managers hostSet) bool {
	up := 0
	for i := range names {
		if managers.has(i) && l.alive(i) {
			up++
		}
	}
	return up >= core.Majority(managers.count()) && up > 0
}

func (l *lead) heir(managers hostSet) int {
	for i := range names {
		if managers.has(i) && l.alive(i) {
			return i
		}
	}
	return l.p.id
}

// handOver has a manager that has all there is stand for election at once.
func (r *raft) handOver(to int) {
	if r.match[to] < len(r.p.disk.log) || r.p.w.now < r.p.stalled {
		return
	}
	r.handing = r.p.w.now + r.p.local(raftTimeout)
	r.send(to, rpc{kind: timeoutNow})
}

// timeoutNow has this host stand, and others vote for it beside a leader that they hear.
func (r *raft) timeoutNow(m *rpc) {
	if m.term == r.p.disk.term && r.role == follower && r.voters.has(r.p.id) {
		r.leader = -1
		r.stand(true)
	}
}

// askManager is the operator, who tries again through elections.
func (p *process) askManager(kind FaultKind, host int) {
	c := core.Command{Kind: core.ManagerAdded, Node: &core.Node{Name: names[host]}}
	if kind == AskDismiss {
		c.Kind = core.ManagerRemoved
	}
	p.propose(c, func(outcome) {})
}
