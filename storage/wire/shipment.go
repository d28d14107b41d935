package wire

import (
	"net"
	"sync"
)

// shipment writes a checkpoint's frames while later ones are still being filled: between a
// guest's pages and its device state QEMU takes its time, and the network is idle. Whoever
// fills never waits for the network, or else a slow one would keep the guest stopped: what
// is not written yet is in memory anyway.
type shipment struct {
	wake chan struct{} // there is something new; holds one
	done chan struct{} // closed when nothing is being written any more

	mu    sync.Mutex // guards slabs, last and whole
	slabs [][]byte   // of pages, not sealed
	last  [][]byte   // frames; set once nothing more is to come
	whole bool       // last is set

	sent int64 // to be read when done is closed, as err is
	err  error // of the first write that failed
}

// newShipment starts the one goroutine of a shipment, which ends after finish.
func newShipment(conn net.Conn, begin []byte) *shipment {
	h := &shipment{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go h.run(conn, begin)
	return h
}

// put hands over a slab, which stays as it is until the shipment is done.
func (h *shipment) put(slab []byte) {
	h.change(func() { h.slabs = append(h.slabs, slab) })
}

// finish hands over the last frames.
func (h *shipment) finish(frames ...[]byte) {
	h.change(func() { h.last, h.whole = frames, true })
}

func (h *shipment) change(f func()) {
	h.mu.Lock()
	f()
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *shipment) run(conn net.Conn, begin []byte) {
	defer close(h.done)
	h.write(conn, begin)
	for range h.wake {
		h.mu.Lock()
		frames, last, whole := h.slabs, h.last, h.whole
		h.slabs = nil
		h.mu.Unlock()
		for _, f := range frames {
			putHeader(f, TypePages)
		}
		h.write(conn, append(frames, last...)...)
		if whole {
			return
		}
	}
}

// write is the goroutine's: nothing is written after an error.
func (h *shipment) write(conn net.Conn, frames ...[]byte) {
	if h.err != nil {
		return
	}
	bufs := net.Buffers(frames)
	n, err := bufs.WriteTo(conn)
	h.sent, h.err = h.sent+n, err
}

// wait returns the number of bytes written once nothing is being written any more.
func (h *shipment) wait() (int64, error) {
	<-h.done
	return h.sent, h.err
}
