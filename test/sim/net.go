package sim

import "time"

// network is the management network: which directions are cut, how often, and how rough
// it is. The guests' network is in guest.go.
type network struct {
	cut     [maxHosts][maxHosts]int // by how many faults
	latency time.Duration
	jitter  time.Duration
	loss    int // of a thousand, when calm
	storms  int // faults that make it rough
}

const (
	stormLoss  = 200 // of a thousand
	stormDup   = 200
	stormDelay = 300 * time.Millisecond
)

func (w *World) reaches(from, to int) bool {
	return w.net.cut[from][to] == 0 && w.hosts[to].up && w.hosts[from].up
}

func (w *World) delay() time.Duration {
	d := w.net.latency
	if w.net.jitter > 0 {
		d += time.Duration(w.rng.Uint64N(uint64(w.net.jitter)))
	}
	if w.net.storms > 0 && w.rng.IntN(3) == 0 {
		d += time.Duration(w.rng.Uint64N(uint64(stormDelay)))
	}
	return d
}

// send is a datagram, or a request of which nobody knows whether it arrives. It is for
// the process that the other host runs when it arrives.
func (w *World) send(from, to int, k kind, msg any) {
	if !w.reaches(from, to) {
		return
	}
	copies := 1
	if loss := w.net.loss; loss > 0 || w.net.storms > 0 {
		if w.net.storms > 0 {
			loss += stormLoss
			if w.chance(stormDup) {
				copies = 2
			}
		}
		if w.chance(loss) {
			return
		}
	}
	for range copies {
		w.q.push(event{at: w.now + w.delay(), kind: k, to: uint8(to), from: uint8(from), msg: msg})
	}
}

// chance is true n times of a thousand.
func (w *World) chance(n int) bool { return w.rng.IntN(1000) < n }

// between is a time from lo to hi.
func (w *World) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Uint64N(uint64(hi-lo)))
}
