package commit

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// A host with a kernel of its own is heard by a program that runs there: it writes gobs
// of message to its standard output. What it reads from its standard input are gobs of
// int64, instants to be sent back with its own clock's; it ends with its input. The trace
// comes the same way: what such a kernel has not written yet when it dies is lost.
type message struct {
	Frame      *Frame
	Trace      []byte
	Heard      int64 // all up to then has been sent
	Lost       uint
	Asked, Now int64 // a question's instant, and ours
}

// Clock is what a host's own clock shows. Its kernel takes the time from the machine's
// when it starts, and both run alike from then on.
type Clock struct {
	Ahead time.Duration // of ours
	Error time.Duration // at most
}

const (
	questions = 50 // the answer that came soonest counts
	announce  = 20 * time.Millisecond
)

// Listen is that program, for the host it runs on and the trace of its hamgr.
func Listen(host, trace string, in io.Reader, out io.Writer) error {
	l, err := hearTaps(host, os.Getpid())
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards enc
	enc := gob.NewEncoder(out)
	send := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		enc.Encode(m)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		dec := gob.NewDecoder(in)
		for {
			var asked int64
			if dec.Decode(&asked) != nil {
				return
			}
			send(message{Asked: asked, Now: time.Now().UnixNano()})
		}
	}()
	l.start(func(f Frame) { send(message{Frame: &f}) })
	tail := Tail{Path: trace}
	defer tail.Close()
	for {
		select {
		case <-ended:
			l.end()
			return nil
		case <-time.After(announce):
			upTo := l.upTo()
			send(message{Trace: tail.More(), Heard: upTo, Lost: l.lost()})
		}
	}
}

// remote is that program as seen from here.
type remote struct {
	cmd   *exec.Cmd
	in    io.Closer
	dec   *gob.Decoder
	clock Clock
	trace func([]byte)
	heard atomic.Int64
	gone  atomic.Uint64 // lost there
	done  chan struct{}
}

func hearRemote(host string, cmd *exec.Cmd) (*remote, error) {
	r := &remote{cmd: cmd, done: make(chan struct{})}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r.in, r.dec = in, gob.NewDecoder(out)
	if err := r.setClock(gob.NewEncoder(in)); err != nil {
		cmd.Process.Kill()
		return nil, errors.Join(fmt.Errorf("commit: listening on %s: %w", host, err), cmd.Wait())
	}
	return r, nil
}

// setClock compares the clocks. What is heard meanwhile is of no interest yet.
func (r *remote) setClock(ask *gob.Encoder) error {
	r.clock.Error = math.MaxInt64
	for range questions {
		if err := ask.Encode(time.Now().UnixNano()); err != nil {
			return err
		}
		var m message
		for m.Asked == 0 {
			if err := r.dec.Decode(&m); err != nil {
				return err
			}
		}
		now := time.Now().UnixNano()
		if half := time.Duration(now-m.Asked) / 2; half < r.clock.Error {
			r.clock.Error, r.clock.Ahead = half, time.Duration(m.Now-m.Asked)-half
		}
	}
	return nil
}

func (r *remote) start(sink func(Frame)) {
	go func() {
		defer close(r.done)
		for {
			var m message
			if r.dec.Decode(&m) != nil { // it has ended, or its host: there is no more
				r.heard.Store(math.MaxInt64)
				return
			}
			if len(m.Trace) > 0 {
				r.trace(m.Trace)
			}
			switch {
			case m.Frame != nil:
				m.Frame.Time = m.Frame.Time.Add(-r.clock.Ahead)
				sink(*m.Frame)
			case m.Heard != 0:
				r.heard.Store(m.Heard - int64(r.clock.Ahead))
				r.gone.Store(uint64(m.Lost))
			}
		}
	}()
}

func (r *remote) upTo() int64 { return r.heard.Load() }
func (r *remote) lost() uint  { return uint(r.gone.Load()) }

func (r *remote) end() uint {
	r.in.Close()
	select {
	case <-r.done:
	case <-time.After(deliver):
		r.cmd.Process.Kill()
		<-r.done
	}
	r.cmd.Wait()
	return r.lost()
}
