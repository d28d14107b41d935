package commit

import (
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// Recorder keeps the frames of a run, from inside its hosts and from its network.
type Recorder struct {
	mu      sync.Mutex // guards the rest
	frames  []Frame
	bytes   int
	sources map[string]source // by host, with /in for the inside
	kernels map[string][]*Kernel
	dropped uint
}

// source delivers the frames of one place.
type source interface {
	start(sink func(Frame))
	upTo() int64 // in Unix nanoseconds: sink has got all frames up to then
	lost() uint  // frames that there was no room for
	end() uint   // stops when all heard so far is delivered; lost for the last time
}

// maxRecorded bounds the memory; a recorder that is full drops and says so at the end.
const maxRecorded = 1 << 30

// deliver is how long recorded frames may take from the kernel to here.
const deliver = 20 * time.Second

// NewRecorder makes an empty one. Close it.
func NewRecorder() *Recorder {
	return &Recorder{sources: map[string]source{}, kernels: map[string][]*Kernel{}}
}

// Inside records what guests emit on a host: what arrives at taps in bridges, in the
// network namespace of a process. One that heard this host before, which has died, is
// replaced.
func (r *Recorder) Inside(host string, pid int) error {
	l, err := hearTaps(host, pid)
	if err != nil {
		return err
	}
	r.start(host+"/in", l)
	return nil
}

// Kernel is one life of a host with a kernel of its own.
type Kernel struct {
	Clock
	Trace []byte // what its hamgr traced, by that clock
}

// InsideKernel does so on a host with a kernel of its own that was started at an instant.
// The command runs Listen there.
func (r *Recorder) InsideKernel(host string, cmd *exec.Cmd) error {
	l, err := hearRemote(host, cmd)
	if err != nil {
		return err
	}
	k := &Kernel{Clock: l.clock}
	r.mu.Lock()
	r.kernels[host] = append(r.kernels[host], k)
	r.mu.Unlock()
	l.trace = func(more []byte) {
		r.mu.Lock()
		defer r.mu.Unlock()
		k.Trace = append(k.Trace, more...)
	}
	r.start(host+"/in", l)
	return nil
}

// Outside records what comes out of a host: what arrives at its port, a device in the
// network namespace of a process.
func (r *Recorder) Outside(host string, pid int, device string) error {
	l, err := hear(pid, device, nil)
	if err != nil {
		return err
	}
	l.host = host
	r.start(host, l)
	return nil
}

// Kernels are the lives of a host with kernels of its own, so far.
func (r *Recorder) Kernels(host string) (out []Kernel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.kernels[host] {
		out = append(out, *k)
	}
	return out
}

func (r *Recorder) start(name string, l source) {
	r.end(name)
	r.mu.Lock()
	r.sources[name] = l
	r.mu.Unlock()
	l.start(r.keep)
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

// end stops one source, if it is there.
func (r *Recorder) end(name string) {
	r.mu.Lock()
	l := r.sources[name]
	delete(r.sources, name)
	r.mu.Unlock()
	if l == nil {
		return
	}
	dropped := l.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped += dropped
}

// Frames are those from an instant until the call, by time. An error says that some are
// missing: no verdict can be given.
func (r *Recorder) Frames(from time.Time) ([]Frame, error) {
	until := time.Now()
	if err := r.Await(until); err != nil {
		return nil, err
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

// Await returns when all frames up to an instant are here.
func (r *Recorder) Await(until time.Time) error {
	for end := time.Now().Add(deliver); !r.heard(until); time.Sleep(blockTimeout) {
		if time.Now().After(end) {
			return fmt.Errorf("commit: the frames were not delivered within %v; the machine is too busy", deliver)
		}
	}
	return nil
}

func (r *Recorder) heard(until time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.sources {
		if l.upTo() < until.UnixNano() {
			return false
		}
	}
	return true
}

func (r *Recorder) missingLocked() error {
	lost := r.dropped
	for _, l := range r.sources {
		lost += l.lost()
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

// Close ends all sources.
func (r *Recorder) Close() {
	r.mu.Lock()
	var names []string
	for n := range r.sources {
		names = append(names, n)
	}
	r.mu.Unlock()
	for _, n := range names {
		r.end(n)
	}
}
