package alarm

import (
	"sync"
	"time"
)

// queueLength bounds what waits for an inspector that does not answer.
const queueLength = 256

type waiting struct {
	alarm Alarm
	since time.Time
}

// queue keeps the newest queueLength alarms: when it overflows the oldest go, being the
// least true by now.
type queue struct {
	wake chan struct{} // capacity 1: something was added

	mu      sync.Mutex // guards what follows
	list    []waiting
	dropped uint64
}

// add reports whether an older alarm had to go.
func (q *queue) add(w waiting) (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.list = append(q.list, w); len(q.list) > queueLength {
		q.list, dropped = q.list[1:], true
		q.dropped++
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return dropped
}

func (q *queue) next() (waiting, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return waiting{}, false
	}
	w := q.list[0]
	q.list = q.list[1:]
	return w, true
}
