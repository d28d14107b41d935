package sim

import "time"

// kind says what an event is.
type kind uint8

const (
	none     kind = iota
	faultOn       // arg: which of the schedule
	faultOff      // arg: likewise
	bootHost      // the host has power again
	bootHamgr
	guestActs // arg: copy
	streamGot // msg: *frame; the host's kernel takes it

	// What follows belongs to a process, and waits while that stands still.
	beatTimer
	raftTimer   // arg: token
	submitTimer // msg: *deferred
	roundTimer
	recoverTimer
	reconcileTimer // arg 1: the regular one
	gateTimer
	jobTimer    // arg: vm and token
	backupTimer // msg: *backup
	tryTimer    // msg: *try
	beatGot     // msg: *beat
	secondGot   // msg: *beat, by the second path
	rpcGot      // msg: *rpc
	requestGot  // msg: *request
	answerGot   // msg: *request
	guestGone   // arg: vm
	streamRead  // msg: *frame
)

// event is something that happens at a time, to a host.
type event struct {
	at   time.Duration
	seq  uint64 // of two at one time the first made comes first
	inc  uint32 // of the process that it belongs to; another one never sees it
	kind kind
	to   uint8
	from uint8
	arg  uint32
	msg  any
}

// queue is a heap of events, four children to a parent.
type queue struct {
	heap []event
	seq  uint64
}

func (q *queue) reset() {
	clear(q.heap)
	q.heap, q.seq = q.heap[:0], 0
}

func before(a, b *event) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func (q *queue) push(e event) {
	q.seq++
	e.seq = q.seq
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		p := (i - 1) / 4
		if !before(&e, &q.heap[p]) {
			break
		}
		q.heap[i] = q.heap[p]
		i = p
	}
	q.heap[i] = e
}

func (q *queue) pop() event {
	top, last := q.heap[0], len(q.heap)-1
	e := q.heap[last]
	q.heap[last].msg = nil
	q.heap = q.heap[:last]
	i := 0
	for {
		least := 4*i + 1
		if least >= last {
			break
		}
		for c := least + 1; c < min(least+4, last); c++ {
			if before(&q.heap[c], &q.heap[least]) {
				least = c
			}
		}
		if !before(&q.heap[least], &e) {
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	if last > 0 {
		q.heap[i] = e
	}
	return top
}

// arena gives out memory that is all given back at once.
type arena[T any] struct {
	chunks [][]T
	used   int
}

const chunk = 512

func (a *arena[T]) get() *T {
	if a.used == len(a.chunks)*chunk {
		a.chunks = append(a.chunks, make([]T, chunk))
	}
	x := &a.chunks[a.used/chunk][a.used%chunk]
	a.used++
	return x
}

func (a *arena[T]) reset() {
	for i := range min(len(a.chunks), a.used/chunk+1) {
		clear(a.chunks[i])
	}
	a.used = 0
}
