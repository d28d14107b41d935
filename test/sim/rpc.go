package sim

type rpcKind uint8

const (
	preVote rpcKind = iota
	vote
	voted    // the answer to both
	appendTo // also the heartbeat
	appended
	timeoutNow // the leader wants this one to lead
)

// rpc is a message of Raft; not for writing once it is sent.
type rpc struct {
	kind    rpcKind
	from    int
	term    uint64
	index   int // votes: the candidate's last; appendTo: before the entries; appended: the last that matches
	logTerm uint64
	entries []entry
	commit  int
	ok      bool
	pre     bool // voted: on a pre-vote
	beat    bool // appended: of a follower whose disk stands still
	handed  bool // vote: by the leader's wish
}

func (r *raft) send(to int, m rpc) {
	x := r.p.w.rpcs.get()
	*x = m
	x.from = r.p.id
	if m.kind != preVote {
		x.term = r.p.disk.term
	}
	if m.pre {
		x.term = m.term
	}
	r.p.w.send(r.p.id, to, rpcGot, x)
}

// sendAll brings every follower what it lacks, or nothing, which says that the leader lives.
func (r *raft) sendAll(empty bool) {
	for _, h := range r.p.w.hosts {
		if h.id != r.p.id {
			r.sendTo(h.id, empty)
		}
	}
}

func (r *raft) sendTo(to int, empty bool) {
	d := &r.p.disk
	prev := r.next[to] - 1
	m := rpc{kind: appendTo, index: prev, logTerm: d.termAt(prev), commit: r.commit}
	if !empty {
		m.entries = d.log[prev:len(d.log):len(d.log)]
	}
	r.send(to, m)
}

func (r *raft) got(m *rpc) {
	if m.kind != preVote && m.kind != vote && !m.pre {
		r.adopt(m.term)
	}
	switch m.kind {
	case preVote, vote:
		r.asked(m)
	case voted:
		r.answered(m)
	case appendTo:
		r.appendGot(m)
	case appended:
		r.appendedGot(m)
	case timeoutNow:
		r.timeoutNow(m)
	}
}

// asked answers a candidate. While this host hears a leader it gives no vote, so that one
// that was cut off cannot depose a leader that the others hear.
func (r *raft) asked(m *rpc) {
	d := &r.p.disk
	last, lastTerm := d.last()
	upToDate := m.logTerm > lastTerm || m.logTerm == lastTerm && m.index >= last
	quiet := m.handed || r.leader < 0 || r.role != leading && r.p.w.now-r.heard >= r.p.local(r.timeout)
	ok := upToDate && quiet && r.voters.has(m.from)
	if m.kind == preVote {
		r.send(m.from, rpc{kind: voted, pre: true, term: m.term, ok: ok && m.term > d.term})
		return
	}
	if quiet {
		r.adopt(m.term)
	}
	ok = ok && m.term == d.term && (d.vote < 0 || d.vote == m.from)
	if ok {
		d.vote = m.from
		r.rest()
	}
	r.send(m.from, rpc{kind: voted, ok: ok})
}

func (r *raft) answered(m *rpc) {
	d := &r.p.disk
	mine := m.pre && r.role == asking && m.term == d.term+1 || !m.pre && r.role == candidate && m.term == d.term
	if mine && m.ok {
		r.votes |= 1 << m.from
		r.count()
	}
}

func (r *raft) appendGot(m *rpc) {
	d := &r.p.disk
	if m.term < d.term {
		r.send(m.from, rpc{kind: appended})
		return
	}
	if r.role != follower {
		r.follow(m.from)
	}
	r.leader, r.heard = m.from, r.p.w.now
	r.rest()
	if m.index > len(d.log) || d.termAt(m.index) != m.logTerm {
		r.send(m.from, rpc{kind: appended, index: min(m.index-1, len(d.log))})
		return
	}
	managers := false
	for i, e := range m.entries {
		at := m.index + i // position of e in the log
		if at < len(d.log) && d.log[at].term != e.term {
			d.log, managers = d.log[:at:at], true
		}
		if at >= len(d.log) {
			d.log = append(d.log, e)
			managers = managers || e.order.managers != 0
		}
	}
	if managers {
		r.configure()
	}
	last := m.index + len(m.entries)
	r.send(m.from, rpc{kind: appended, ok: true, index: last})
	r.commitTo(min(m.commit, last))
}

func (r *raft) appendedGot(m *rpc) {
	if r.role != leading || m.term != r.p.disk.term {
		return
	}
	r.contact[m.from] = r.p.w.now
	switch {
	case m.beat:
	case !m.ok:
		r.next[m.from] = max(r.match[m.from]+1, min(m.index+1, r.next[m.from]))
		r.sendTo(m.from, false)
	case m.index > r.match[m.from]:
		r.match[m.from] = m.index
		r.next[m.from] = m.index + 1
		r.advance()
	default:
		r.next[m.from] = max(r.next[m.from], r.match[m.from]+1)
	}
}
