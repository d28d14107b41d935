package commit

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// Recorder keeps the frames of a run, from inside its hosts and from its network.
type Recorder struct {
	mu        sync.Mutex // guards the rest
	frames    []Frame
	bytes     int
	listeners map[string]*listener // by host, with /in for the inside
	dropped   uint
}

// maxRecorded bounds the memory; a recorder that is full drops and says so at the end.
const maxRecorded = 1 << 30

// deliver is how long recorded frames may take from the kernel to here.
const deliver = 5 * time.Second

// NewRecorder makes an empty one. Close it.
func NewRecorder() *Recorder { return &Recorder{listeners: map[string]*listener{}} }

// Inside records what guests emit on a host: what arrives at taps in bridges, in the
// network namespace of a process. One that heard this host before, which has died, is
// replaced.
func (r *Recorder) Inside(host string, pid int) error {
	l, err := hear(pid, "", func(d netlink.Link) bool { return !isTap(d) })
	if err != nil {
		return err
	}
	l.at = l.taps()
	return r.start(host+"/in", host, l)
}

// Outside records what comes out of a host: what arrives at its port, a device in the
// network namespace of a process.
func (r *Recorder) Outside(host string, pid int, device string) error {
	l, err := hear(pid, device, nil)
	if err != nil {
		return err
	}
	return r.start(host, host, l)
}

func (r *Recorder) start(name, host string, l *listener) error {
	err := r.end(name)
	l.host, l.sink = host, r.keep
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners[name] = l
	go l.run()
	return err
}

func (r *Recorder) keep(f Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes += len(f.Data); r.bytes > maxRecorded {
		r.dropped++
		return
	}
	r.frames = append(r.frames, f)
}

// end stops one listener, if it is there, after it has delivered all it heard.
func (r *Recorder) end(name string) error {
	r.mu.Lock()
	l := r.listeners[name]
	delete(r.listeners, name)
	r.mu.Unlock()
	if l == nil {
		return nil
	}
	dropped, err := l.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped += dropped
	return err
}

// Frames are those from an instant until the call, by time. An error says that some are
// missing: no verdict can be given.
func (r *Recorder) Frames(from time.Time) ([]Frame, error) {
	until := time.Now()
	for end := until.Add(deliver); !r.heard(until); {
		if time.Now().After(end) {
			return nil, fmt.Errorf("commit: the frames were not delivered within %v; the machine is too busy", deliver)
		}
		time.Sleep(blockTimeout)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Frame
	for _, f := range r.frames {
		if !f.Time.Before(from) && !f.Time.After(until) {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Frame) int { return a.Time.Compare(b.Time) })
	return out, r.missingLocked()
}

// heard says that all frames up to an instant are here.
func (r *Recorder) heard(until time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.listeners {
		if l.heard.Load() < until.UnixNano() {
			return false
		}
	}
	return true
}

func (r *Recorder) missingLocked() error {
	lost := r.dropped
	for _, l := range r.listeners {
		if _, s, err := l.ring.SocketStats(); err == nil {
			lost += s.Drops()
		}
	}
	if lost > 0 {
		return fmt.Errorf("commit: %d frames were not recorded; the machine is too busy", lost)
	}
	return nil
}

// Forget drops the frames before an instant.
func (r *Recorder) Forget(before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = slices.DeleteFunc(r.frames, func(f Frame) bool { return f.Time.Before(before) })
	r.bytes = 0
	for _, f := range r.frames {
		r.bytes += len(f.Data)
	}
}

// Close ends all listeners.
func (r *Recorder) Close() {
	r.mu.Lock()
	var names []string
	for n := range r.listeners {
		names = append(names, n)
	}
	r.mu.Unlock()
	for _, n := range names {
		r.end(n)
	}
}
