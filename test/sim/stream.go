package sim

// stream is a TCP connection from a primary to a backup. What is sent arrives, in order,
// for as long as both kernels live and can reach each other at times.
type stream struct {
	ends   [2]end // the primary's, the backup's
	closed [2]bool
	dead   [2]bool   // that host has lost its power meanwhile
	sent   [2]uint32 // frames to each end
	got    [2]uint32 // of them, those that the kernel there has

	session *session
	backup  *backup
}

type end struct {
	host *host
	inc  uint32 // the process; 0 at the backup until one has taken it
}

type frameKind uint8

const (
	hello   frameKind = iota // gen, index
	accept                   // by the backup
	refuse                   // by the backup: why
	precopy                  // mem: the first copy
	part                     // mem: pages of a checkpoint
	whole                    // mem: the rest; epoch, branch, count
	commit                   // by the backup: epoch
	shut                     // the other process has closed, or is gone
	unheard                  // nobody listens there, or that process is gone
)

// frame is what goes over a stream.
type frame struct {
	s    *stream
	to   int // end
	n    uint32
	kind frameKind

	gen    uint64
	index  int // of the sender's state
	epoch  uint64
	branch int
	count  uint64
	mem    [pages]uint64
	has    [pages]bool
	why    string
}

func (w *World) dial(from *process, to *host) *stream {
	return &stream{ends: [2]end{{from.host, from.inc}, {to, 0}}}
}

// write sends a frame to the other end.
func (s *stream) write(f frame) {
	w := s.ends[0].host.w
	if s.dead[1-f.to] {
		return
	}
	s.sent[f.to]++
	f.s, f.n = s, s.sent[f.to]
	w.q.push(event{at: w.now + w.delay(), kind: streamGot, to: uint8(s.ends[f.to].host.id), from: uint8(s.ends[1-f.to].host.id), msg: &f})
}

// close is by the process at one end.
func (s *stream) close(side int) {
	if s.closed[side] {
		return
	}
	s.closed[side] = true
	s.write(frame{to: 1 - side, kind: shut})
}

// streamGot is the kernel's part: to send again what did not arrive, and to answer for
// processes that are gone.
func (h *host) streamGot(e *event) {
	w, f := h.w, e.msg.(*frame)
	s := f.s
	from := s.ends[1-f.to].host
	switch {
	case s.closed[f.to], s.dead[1-f.to], f.kind == hello && s.closed[0]:
		return
	case !w.reaches(from.id, h.id) || f.n != s.got[f.to]+1:
		late := *e
		late.at = w.now + retransmit
		if f.n != s.got[f.to]+1 {
			late.at = w.now + retransmit/8
		}
		w.q.push(late)
		return
	}
	s.got[f.to]++
	end := &s.ends[f.to]
	if f.kind == hello && h.proc != nil && h.proc.agent.listens() {
		end.inc = h.proc.inc
	}
	if h.proc == nil || end.inc != h.proc.inc {
		if f.kind != unheard && f.kind != shut {
			s.write(frame{to: 1 - f.to, kind: unheard})
		}
		return
	}
	read := *e
	read.kind, read.inc = streamRead, h.proc.inc
	h.toProcess(&read)
}

// streamsBreak is the kernel closing what a dead process had open, unless the host lost its
// power with it.
func (h *host) streamsBreak(p *process, power bool) {
	for _, j := range p.agent.jobs {
		if j != nil && j.s != nil && j.s.stream != nil {
			j.s.stream.dead[0] = !power
			j.s.stream.close(0)
		}
	}
	for _, s := range p.agent.accepted {
		s.dead[1] = !power
		s.close(1)
	}
}
