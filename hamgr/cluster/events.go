package cluster

import (
	"context"
	"sync"

	"github.com/hamgr/hamgr/hamgr/core"
)

// eventsWaiting bounds the queue; beyond it the oldest are forgotten. They stay in State.
const eventsWaiting = 1024

// events carries applied events from Raft's goroutine, which must not wait, to handlers
// that may.
type events struct {
	wake chan struct{} // capacity 1

	mu       sync.Mutex // guards what follows
	waiting  []core.Event
	handlers []func(core.Event)
}

func (q *events) add(e core.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting = append(q.waiting, e); len(q.waiting) > eventsWaiting {
		q.waiting = q.waiting[1:]
	}
	pulse(q.wake)
}

func (q *events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		q.mu.Lock()
		batch, handlers := q.waiting, q.handlers
		q.waiting = nil
		q.mu.Unlock()
		for _, e := range batch {
			for _, h := range handlers {
				h(e)
			}
		}
	}
}
